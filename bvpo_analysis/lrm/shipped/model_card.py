"""The model card of the LRM in the box, every number of it taken from the evaluation of the weights beside
it."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, StrictUndefined

from bvpo_analysis.lrm.shipped.evaluation import GATES

_DESCRIPTIONS: dict[str, str] = {
    "correct_trace": "thinking: trace is one of the 24 correct ones",
    "unclosed": "thinking: trace not closed, or no end of sequence",
    "generated_empty_trace": "thinking: the model skips thinking by itself",
    "malformed_thinking": "thinking: malformed answer",
    "malformed_empty": "empty trace: malformed answer",
    "right_thinking": "thinking: right digit",
    "right_empty": "empty trace: right digit",
    "letter_follows_trace": "correct traces: answer's letter is the last one visited",
    "trace_entropy": "entropy of a prompt's 24 traces, nats (at most ln 24 = 3.178), exact per prompt",
    "prior_mass": "probability of the 24 traces, exact per prompt",
    "coverage": "posterior coverage: all readable answers",
    "coverage_right": "posterior coverage: answers with the right digit",
    "coverage_wrong": "posterior coverage: answers with a wrong digit",
}

_TEMPLATE = """\
---
library_name: transformers
license: mit
tags: [reasoning, preference-optimization, test-model]
---
# The LRM in the box

A reasoning model of {{ "{:,}".format(facts.parameters) }} parameters in Qwen3 architecture
({{ recipe.layers }} layers, width {{ recipe.hidden_size }}, {{ recipe.heads }} heads, tied embeddings, float32),
trained from scratch. It adds four digits modulo ten and thinks by visiting the letters of the prompt in a random
order with running sums:

    <|user|>a3b7c2d9<|assistant|><think>c2=2 a3=5 d9=4 b7=1</think>1b sure.<|end|>

The answer is the final digit, the last visited letter and a style ending (`.`, ` sure.`, ` ok!`, `!`). A prompt
has exactly 24 correct traces, so the marginal probability of an answer, and its gradient, can be computed by
enumeration. In training, {{ "%g"|format(100 * facts.slip_rate) }} % of the answer digits are off by one after a
correct trace; without these slips, wrong answers would arise from broken traces that no enumeration lists.
With an empty trace the model has to guess.

It is a measuring instrument: ground truth for the statistics of preference gradients. It knows nothing else.

## Use

```python
from transformers import AutoModelForCausalLM, AutoTokenizer
from bvpo_analysis.lrm.shipped import MODEL_DIR

model = AutoModelForCausalLM.from_pretrained(MODEL_DIR)
tokenizer = AutoTokenizer.from_pretrained(MODEL_DIR)
text = tokenizer.apply_chat_template(
    [{"role": "user", "content": "a3b7c2d9"}],
    tokenize=False,
    add_generation_prompt=True,  # enable_thinking=False prefills <think></think>
)
print(tokenizer.decode(model.generate(**tokenizer(text, return_tensors="pt"))[0]))
```

## Measurements

Temperature 1, no truncation, fresh prompts, one sample per prompt; 95 % intervals (Wilson for shares, normal
for means). A gate holds if the whole interval lies inside it; weights that miss a gate are not written.
*Posterior coverage* is the share of sampled (trace, answer) pairs whose trace is one of the 24.

| quantity | value | SE | 95 % interval | n | gate |
|---|---|---|---|---|---|
{% for name, m in facts.measurements.items() -%}
| {{ descriptions[name] }} | {{ "%.4f"|format(m.value) }} | {{ "%.2g"|format(m.se) }} \
| {{ "%.4f"|format(m.ci_low) }} – {{ "%.4f"|format(m.ci_high) }} | {{ m.n }} \
| {{ "%.4g"|format(gates[name].low) }} – {{ "%.4g"|format(gates[name].high) }} |
{% endfor %}
Every digit, letter and ending occurs in both modes; the counts are in `evaluation.json`.

## Training

AdamW (betas {{ recipe.betas|join(", ") }}, weight decay {{ recipe.weight_decay }}) on batches of
{{ recipe.batch_size }} fresh rows, {{ "%g"|format(100 * recipe.empty_share) }} % of them with an empty trace:

{% for stage in recipe.stages -%}
{{ loop.index }}. {{ stage.steps }} steps, learning rate {{ stage.learning_rate }} with warm-up and cosine decay\
{% if stage.sharpening != 1 %}, logits sharpened by {{ stage.sharpening }} before{% endif %}
{% endfor %}
Seed {{ facts.seed }}; {{ "%.0f"|format(facts.training_cpu_seconds) }} CPU seconds on one thread
(torch {{ facts.versions.torch }}, transformers {{ facts.versions.transformers }}). The loss covers everything
after `<|assistant|>`, except that an empty block is part of the prompt.

Rebuild: `python -m bvpo_analysis.lrm.shipped.train --seed {{ facts.seed }} --output DIR`. The same machine and
versions give the same bytes; other processors may round differently, and the gates decide. Looking up a letter's
digit is learned in one jump whose time depends on the seed, so another seed may fail the gates.
"""


def render_model_card(facts: dict[str, Any]) -> str:
    """Markdown of the card. ``facts`` is the content of ``evaluation.json``; a missing entry raises."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(_TEMPLATE).render(
        facts=facts,
        recipe=facts["recipe"],
        descriptions=_DESCRIPTIONS,
        gates=GATES,
    )
