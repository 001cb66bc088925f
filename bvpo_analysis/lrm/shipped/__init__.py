"""The LRM in the box: a small, real reasoning model that ships with the package.

The model (Qwen3 architecture, about 0.3 M parameters) adds four one-digit numbers modulo ten. It thinks by
visiting the four letters of the prompt in a random order with running sums, so each prompt has exactly 24
correct traces. They carry nearly all of the probability, and what is a limit elsewhere, the marginal π(y|x)
= Σ_r π(r|x) π(y|x,r) and its gradient, is here a finite sum.

* :mod:`~bvpo_analysis.lrm.shipped.task` -- prompts, traces, answers, rewards; pure Python and NumPy
* :mod:`~bvpo_analysis.lrm.shipped.tokenizer` -- the tokenizer and its chat template
* :mod:`~bvpo_analysis.lrm.shipped.train` -- ``python -m bvpo_analysis.lrm.shipped.train`` rebuilds all
* :mod:`~bvpo_analysis.lrm.shipped.evaluation` -- the measurements that a trained model must pass
* :mod:`~bvpo_analysis.lrm.shipped.model_card` -- the README written beside the weights

``MODEL_DIR`` is an ordinary Hugging Face model directory::

    AutoModelForCausalLM.from_pretrained(MODEL_DIR)
    AutoTokenizer.from_pretrained(MODEL_DIR)

Importing this package imports neither torch nor transformers.
"""

from pathlib import Path

#: Directory of the committed weights, tokenizer and model card.
MODEL_DIR: Path = Path(__file__).resolve().parent / "weights"

__all__ = ["MODEL_DIR"]
