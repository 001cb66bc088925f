"""Scores: log pi and grad log pi of whole sequences, streamed into the inner products a study needs.

Backpropagate each sequence once; everything after that is algebra on inner products. Three engines give the same
numbers: ``hooks`` (one batched backward pass, the fastest), ``vmap`` (reference, any architecture) and ``loop`` (one
``torch.autograd.grad`` per sequence, the oracle).
"""

from bvpo_analysis.scores.choice import ENGINE_NAMES, ENGINES, score_engine
from bvpo_analysis.scores.engines import LoopEngine, ScoreEngine, VmapEngine
from bvpo_analysis.scores.hooks import HooksEngine
from bvpo_analysis.scores.log_probs import sequence_log_probs
from bvpo_analysis.scores.metric import MetricEngine, adam_metric, adam_metric_from_state
from bvpo_analysis.scores.passes import score_pairs
from bvpo_analysis.scores.plan import PairSequences, pair_log_probs, plan_pair
from bvpo_analysis.scores.shards import BlockFolder, Shard, ShardFinished
from bvpo_analysis.scores.store import load_scores, save_scores

__all__ = [
    "ENGINES",
    "ENGINE_NAMES",
    "BlockFolder",
    "HooksEngine",
    "LoopEngine",
    "MetricEngine",
    "PairSequences",
    "ScoreEngine",
    "Shard",
    "ShardFinished",
    "VmapEngine",
    "adam_metric",
    "adam_metric_from_state",
    "load_scores",
    "pair_log_probs",
    "plan_pair",
    "save_scores",
    "score_engine",
    "score_pairs",
    "sequence_log_probs",
]
