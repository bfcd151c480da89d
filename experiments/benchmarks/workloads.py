"""The shapes that are measured, by the model that has them; classes are on axis 1.

`quick` are the cases that `make bench` measures, by dtype, and `in_place` those that it measures again with donated
logits. `make bench-full` measures every case in both dtypes. Rows are as few as still leave the caches, so that a
program takes milliseconds on two cores; those of a GPU take as long there.
"""

from typing import NamedTuple

CROSS_ENTROPY = "softmax_cross_entropy"
INTEGER = "softmax_cross_entropy_with_integer_labels"
SPATIAL = "spatial_softmax_cross_entropy"
LINEAR = "linear_softmax_cross_entropy"
DTYPES = ("float32", "bfloat16")


class Workload(NamedTuple):
    name: str
    shape: tuple[int, ...]  # of the logits; of a layer's loss: rows, width and classes; of queries, keys and values
    reason: str
    quick: dict[str, tuple[str, ...]]
    in_place: tuple[str, ...] = ()
    kind: str = "compiled"  # "compiled", "eager", or a module's in `plan.OF_KIND`
    calls: int = 1  # timed together in a round
    rounds: int = 10  # at most
    on: str = "cpu"  # the backend that it is for


def _float32(*cases):
    return {"float32": cases}


WORKLOADS = (
    Workload(
        "tiny",
        (8, 10),
        "calls outside jit: all of the time is dispatch",
        _float32("softmax", "logsumexp", INTEGER),
        kind="eager",
        calls=5,
        rounds=20,
    ),
    Workload(
        "ImageNet",
        (1024, 1000),
        "a classifier's batch: fits the caches, V no multiple of a vector",
        _float32(
            "log_softmax", "logmeanexp", CROSS_ENTROPY, INTEGER, f"{INTEGER}, ignored label", f"{INTEGER}, all options"
        )
        | {"bfloat16": (INTEGER,)},
        in_place=(INTEGER,),
        calls=5,
        rounds=20,
    ),
    Workload(
        "attention",
        (8 * 12 * 128, 128),
        "scores of GPT-2's heads, 8 sequences of 128 tokens: many short rows",
        _float32("softmax", "softmax, β") | {"bfloat16": ("softmax",)},
        calls=5,
        rounds=20,
    ),
    Workload(
        "many rows",
        (65536, 512),
        "few classes, so that what is done once a row counts",
        _float32(INTEGER),
    ),
    Workload(
        "4096 rows",
        (4096, 4096),
        "from 4096 rows on XLA:CPU has one fused kernel for a softmax (kMinElements in ynn_support.cc)",
        _float32("softmax", "logsumexp", INTEGER),
        in_place=("softmax", INTEGER),
    ),
    Workload(
        "4095 rows",
        (4095, 4096),
        "one row fewer than the fused kernel asks for",
        _float32("softmax", INTEGER),
    ),
    Workload(
        "LLM 32k",
        (1024, 32000),
        "Llama-2's vocabulary, 131 MB of logits",
        _float32(INTEGER) | {"bfloat16": (INTEGER,)},
        in_place=(INTEGER,),
    ),
    Workload(
        "GPT-2",
        (128, 50257),
        "29 · 1733 classes: no tile and no vector divides them",
        _float32("softmax", INTEGER, f"{INTEGER}, β"),
    ),
    Workload("Llama-3", (64, 128256), "a vocabulary of 256 · 501", _float32("logsumexp, β", INTEGER)),
    Workload("Gemma", (32, 262144), "the largest vocabulary in use, a power of two", _float32(INTEGER)),
    Workload("off every tile", (1021, 10007), "rows and classes are primes", _float32(INTEGER)),
    Workload(
        "segmentation",
        (8, 21, 256, 256),
        "Pascal VOC's classes on axis 1, with half a million positions behind it",
        _float32("softmax", SPATIAL),
    ),
    Workload(
        "linear 16k",
        (1024, 256, 16384),
        "the logits are 67 MB, the operands 18 MB",
        _float32(LINEAR),
        kind="linear",
    ),
    Workload(
        "linear 32k",
        (2048, 512, 32768),
        "268 MB of logits, 71 MB of operands",
        {},
        kind="linear",
    ),
    Workload(
        "linear GPT-2",
        (1024, 768, 50257),
        "GPT-2's own width and vocabulary, which no block divides",
        {},
        kind="linear",
    ),
)

WORKLOADS += (
    Workload(
        "50 000 faces",
        (512, 512, 50000),
        "102 MB of cosines, as many of prototypes",
        _float32("arcface_loss"),
        kind="margin",
    ),
    Workload(
        "keys and values",
        (4, 1024, 8, 64),
        "134 MB of scores, of operands 8 MB each",
        _float32("dot_product_attention", "dot_product_attention, causal"),
        kind="attention",
    ),
    Workload(
        "vocabulary",
        (1024, 256, 131072),
        "537 MB of logits of all classes, for what takes the place of them",
        _float32(
            "hierarchical_softmax_loss",
            "hierarchical_softmax_loss, groups",
            "adaptive_softmax_loss",
            "sampled_softmax_loss",
            "nce_loss",
            "negative_sampling_loss, 5 for each row",
        ),
        kind="vocabulary",
    ),
)


def _gpu(name, shape, reason, quick, kind="compiled", calls=20):
    """`calls` follow each other, so that starting them takes nothing; of long ones a few are enough."""
    return Workload(f"{name}, GPU", shape, reason, quick, kind=kind, calls=calls, rounds=20, on="gpu")


def _half(*cases):
    return {"bfloat16": cases}


WORKLOADS += (
    _gpu(
        "ImageNet",
        (65536, 1000),
        "a classifier's batch, of rows that one warp reads",
        _float32("softmax", "log_softmax", "logsumexp", CROSS_ENTROPY, INTEGER, f"{INTEGER}, all options")
        | _half(INTEGER),
    ),
    _gpu(
        "attention",
        (8 * 32 * 1024, 1024),
        "scores of 8 sequences of 1024 tokens with 32 heads",
        _half("softmax", "softmax, β"),
    ),
    _gpu(
        "8192 classes",
        (16384, 8192),
        "rows that a GPU has on chip",
        _half("softmax", "log_softmax", "logsumexp", CROSS_ENTROPY, INTEGER) | _float32("softmax", INTEGER),
    ),
    _gpu("16384 classes", (8192, 16384), "the longest rows that a GPU has on chip", _half("softmax", "log_softmax")),
    _gpu(
        "GPT-2",
        (8192, 50257),
        "29 · 1733 classes: no tile and no vector divides them",
        _half("softmax", "logsumexp", INTEGER) | _float32(INTEGER),
        calls=10,
    ),
    _gpu(
        "Llama-3",
        (8192, 128256),
        "2.1 GB of logits in half precision",
        _half(
            "softmax", "log_softmax", "logsumexp", CROSS_ENTROPY, INTEGER, f"{INTEGER}, β", f"{INTEGER}, all options"
        ),
        calls=5,
    ),
    _gpu("Gemma", (4096, 262144), "the largest vocabulary in use, a power of two", _half("softmax", INTEGER), calls=5),
    _gpu(
        "segmentation",
        (8, 21, 512, 512),
        "Pascal VOC's classes on axis 1, with two million positions behind it",
        _float32("softmax", SPATIAL),
    ),
    _gpu(
        "keys and values",
        (4, 4096, 32, 128),
        "2.1 GB of scores in half precision",
        _half("dot_product_attention", "dot_product_attention, causal"),
        "attention",
        calls=3,
    ),
    _gpu("linear 32k", (8192, 2048, 32768), "0.5 GB of logits, 0.2 GB of operands", _half(LINEAR), "linear", 5),
    _gpu("linear Llama-3", (8192, 4096, 128256), "2.1 GB of logits, 1.1 GB of operands", _half(LINEAR), "linear", 2),
)
BY_NAME = {workload.name: workload for workload in WORKLOADS}
