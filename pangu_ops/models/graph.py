"""Decode steps as CUDA graphs: the CPU starts one, instead of every kernel of every layer."""

import torch

MOST_TOKENS = 64  # of a step; the work of more hides what the CPU does
EAGER_STEPS = 3  # before the capture: kernels are compiled meanwhile, and a short answer does without


class DecodeGraphs:
    """The decode steps of one model on one cache: kernel by kernel at first, then replayed, by the shape of the ids.

    A graph holds addresses and sizes: once the cache or the model's rotary table has moved, the next step is captured
    anew. What changes from step to step lies in tensors that the graph reads.
    """

    def __init__(self):
        self._steps = {}

    def step(self, model, ids, cache, batch):
        """Logits ``[B, S, V]`` of the tokens ``ids [B, S]``, whose :class:`Batch` the cache has made."""
        step = self._steps.setdefault(tuple(ids.shape), Step())
        return step(model, ids, cache, batch)


class Step:
    def __init__(self):
        self._eager_steps, self._addresses = 0, ()

    def __call__(self, model, ids, cache, batch):
        tables = model.rotary_tables(batch)
        if self._eager_steps < EAGER_STEPS:
            self._eager_steps += 1
            return model.decode(ids, cache, batch, tables)
        addresses = model, *tables, cache.keys, batch.block_table
        if len(self._addresses) == 0 or any(a is not b for a, b in zip(addresses, self._addresses)):
            with torch.inference_mode(False), torch.no_grad():  # later steps may be taken outside of that mode
                self._ids = ids.clone()
                moving = {name: getattr(batch, name).clone() for name in ("positions", "context_lens", "query_starts")}
                self._batch = batch._replace(**moving)
            self._logits, self._replay = capture(lambda: model.decode(self._ids, cache, self._batch, tables))
            self._addresses = addresses
        self._ids.copy_(ids)
        self._batch.positions.copy_(batch.positions)
        self._batch.context_lens.copy_(batch.context_lens)
        self._replay()
        return self._logits.clone()


def capture(run):
    """The result of ``run()``, and a function that computes it again from the same tensors into the same memory."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()
    return result, graph.replay
