"""Training of the language model over all the devices of all processes: windows over one mesh axis, words over another.

Every process runs this and has a part of each array. What is written, the first process writes: a line for each step,
and now and then a checkpoint of whole arrays, which a training on any number of devices goes on from.
"""

import dataclasses
import json
import os
import time
import zipfile

import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from experiments import _transformer as transformer
from experiments._language_training import batches_of, optimiser_of
from experiments._results import write_json
from experiments._text import IGNORED
from jsoftmax import linear_softmax_cross_entropy, weighted_mean

P = PartitionSpec
DATA, MODEL = "data", "model"
# what a checkpoint has to have been made with
SETTINGS = ("seed", "vocabulary", "length", "width", "layers", "steps", "batch", "learning_rate")


def mesh_of(config, words):
    devices = jax.device_count()
    if devices % config.model or words % config.model:
        raise ValueError(
            f"--model must divide the number of devices, {devices}, and that of words, {words}; got {config.model}."
        )
    if config.batch % (devices // config.model):
        raise ValueError(f"--batch must be a multiple of {devices // config.model}, got {config.batch}.")
    return jax.make_mesh((devices // config.model, config.model), (DATA, MODEL), axis_types=(AxisType.Auto,) * 2)


def train(config, corpus, folder):
    """Goes on from the checkpoint of `folder` if there is one; writes a JSON file at the end."""
    mesh = mesh_of(config, len(corpus.words))
    optimiser = optimiser_of(config)
    parameters = transformer.initial(config.seed, len(corpus.words), config.length, config.width, config.layers)
    specs = {**jax.tree.map(lambda _: P(), parameters), "embedding": P(MODEL)}
    state = optimiser.init(parameters)
    of_state = optax.tree_utils.tree_map_params(
        optimiser, lambda _, spec: spec, state, specs, transform_non_params=lambda _: P()
    )
    places = jax.tree.map(lambda spec: NamedSharding(mesh, spec), (specs, of_state))
    host, history, seconds = restored(config, folder, (parameters, state))
    parameters, state = jax.tree.map(placed, host, places)

    def local(parameters, inputs, labels):
        x = transformer.features(parameters, inputs, MODEL)
        losses = linear_softmax_cross_entropy(
            x,
            parameters["embedding"],
            labels,
            class_axis=0,
            ignore_label=IGNORED,
            block_size=config.block,
            axis_name=MODEL,
        )
        return weighted_mean(losses, labels != IGNORED, axis_name=DATA)[0]

    value = jax.shard_map(local, mesh=mesh, in_specs=(specs, P(DATA), P(DATA)), out_specs=P())

    def step(parameters, state, inputs, labels):
        loss, gradient = jax.value_and_grad(value)(parameters, inputs, labels)
        updates, state = optimiser.update(gradient, state, parameters)
        return optax.apply_updates(parameters, updates), state, loss

    step = jax.jit(step, out_shardings=(*places, NamedSharding(mesh, P())), donate_argnums=(0, 1))
    windows = NamedSharding(mesh, P(DATA))
    with Lines(folder, history) as lines:
        for i, chosen in enumerate(batches_of(np.flatnonzero(~corpus.held_out), config)):
            if i < len(history):
                continue
            started = time.perf_counter()
            batch = placed(corpus.inputs[chosen], windows), placed(corpus.labels[chosen], windows)
            parameters, state, loss = step(parameters, state, *batch)
            history.append(float(loss))
            seconds.append(time.perf_counter() - started)
            lines.add(history[-1])
            if len(history) % config.checkpoint_every == 0 or len(history) == config.steps:
                save(config, folder, (parameters, state), history, seconds)
    if jax.process_index() == 0:
        found = {
            "mesh": dict(mesh.shape),
            "processes": jax.process_count(),
            "bytes_of_parameters_on_a_device": sum(
                a.addressable_shards[0].data.nbytes for a in jax.tree.leaves(parameters)
            ),
            "loss": history,
            "seconds_a_step": float(np.median(seconds)),
        }
        write_json(folder / "run.json", found)


def placed(array, place):
    """The global array, of which this process makes its own part."""
    array = np.asarray(array)
    return jax.make_array_from_callback(array.shape, place, lambda index: array[index])


class Lines:
    """The loss of each step, as soon as it is known: what whoever waits can count."""

    def __init__(self, folder, history):
        self.path, self.history = folder / "loss.txt", history

    def __enter__(self):
        self.file = self.path.open("w", encoding="utf-8") if jax.process_index() == 0 else None
        for loss in self.history:
            self.add(loss)
        return self

    def add(self, loss):
        if self.file:
            print(loss, file=self.file, flush=True)

    def __exit__(self, *exception):
        if self.file:
            self.file.close()


# checkpoints --------------------------------------------------------------------------------------------------------


def settings(config):
    chosen = {name: value for name, value in dataclasses.asdict(config).items() if name in SETTINGS}
    return json.dumps(chosen, sort_keys=True)


def save(config, folder, arrays, history, seconds):
    """Every process takes part, for each has a part of the arrays."""
    whole = multihost_utils.process_allgather(arrays, tiled=True) if jax.process_count() > 1 else jax.device_get(arrays)
    if jax.process_index() == 0:
        leaves = {f"leaf{i}": leaf for i, leaf in enumerate(jax.tree.leaves(whole))}
        partial = folder / "checkpoint.partial"
        with partial.open("wb") as file:
            np.savez(file, settings=settings(config), loss=history, seconds=seconds, **leaves)
        os.replace(partial, folder / "checkpoint.npz")


def restored(config, folder, arrays):
    """(arrays, losses, seconds) of the checkpoint; as they are, and none, without one."""
    path = folder / "checkpoint.npz"
    if not path.exists():
        return arrays, [], []
    try:
        leaves, tree = jax.tree.flatten(arrays)
        with np.load(path) as found:
            kept = {name: found[name] for name in ("settings", "loss", "seconds")}
            host = jax.tree.unflatten(tree, [found[f"leaf{i}"] for i in range(len(leaves))])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is no checkpoint that can be read: {error}. Remove it to start anew.") from error
    if str(kept["settings"]) != settings(config):
        raise ValueError(
            f"{path} is of a training with other settings, {kept['settings']}; these are {settings(config)}. "
            "Remove it, or give --train another name."
        )
    return host, kept["loss"].tolist(), kept["seconds"].tolist()
