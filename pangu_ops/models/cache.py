"""The keys and values of the tokens that a model has seen, in blocks."""

import collections
import itertools

import torch

from pangu_ops.models.config import ModelError
from pangu_ops.models.graph import DecodeGraphs

Batch = collections.namedtuple("Batch", "positions longest block_table context_lens query_starts")
Batch.__doc__ = """The new tokens of a call: ``positions [T]`` in their sequences, the length of the longest, and what
the attention ops need."""


class KVCache:
    """Room for the tokens of a batch of sequences, allocated once; each sequence grows by blocks.

    Args:
        config: the model's.
        batch_size: number of sequences B.
        max_length: most tokens of one sequence.
        device, dtype: of the model's weights.
        block_size: tokens of a block; None for 32, and 128 on a GPU, whose kernels then read whole tiles of one.
        num_blocks: blocks to share among all sequences; None for as many as B times ``max_length`` tokens take.

    ``keys`` and ``values`` are ``[L, N, Hk, block_size, D]``, ``lengths`` holds the tokens of each sequence. A block
    may belong to several sequences (:meth:`share`); whoever writes into it gets a copy first. For inference only: no
    gradient passes.
    """

    def __init__(
        self, config, batch_size, max_length, device="cpu", dtype=torch.float32, block_size=None, num_blocks=None
    ):
        if block_size is None:
            block_size = 32 if torch.device(device).type == "cpu" else 128
        for name, value in (("batch_size", batch_size), ("max_length", max_length), ("block_size", block_size)):
            need(value >= 1, f"{name} must be at least 1", value)
        per_sequence = -(-max_length // block_size)
        num_blocks = batch_size * per_sequence if num_blocks is None else num_blocks
        need(num_blocks >= 1, "num_blocks must be at least 1", num_blocks)
        shape = (config.num_hidden_layers, num_blocks, config.num_key_value_heads, block_size, config.head_dim)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.batch_size, self.max_length, self.block_size = batch_size, max_length, block_size
        self.lengths = [0] * batch_size
        self._blocks = [[] for _ in range(batch_size)]  # of each sequence, in order
        self._users = [0] * num_blocks  # sequences that a block belongs to
        self._free = list(range(num_blocks))[::-1]
        self._table = torch.zeros(batch_size, per_sequence, device=device, dtype=torch.int32)
        self.graphs = DecodeGraphs()  # of the model's steps, on a GPU

    def extend(self, counts):
        """Take in ``counts[b]`` new tokens of each sequence b, whose keys and values the ops will write.

        Returns their :class:`Batch`. Raises :class:`ModelError`, and changes nothing, where a sequence would be longer
        than ``max_length`` or the blocks do not suffice.
        """
        ends = [length + count for length, count in zip(self.lengths, counts, strict=True)]
        need(max(ends) <= self.max_length, f"a sequence must be at most {self.max_length} tokens", max(ends))
        writers = list(self._shared_writers(counts))
        blocks = collections.Counter(self._blocks[row][-1] for row in writers) if writers else {}
        copies = sum(min(rows, self._users[block] - 1) for block, rows in blocks.items())  # the last one needs none
        grown = [-(-end // self.block_size) - len(blocks) for end, blocks in zip(ends, self._blocks)]
        wanted = copies + sum(max(0, number) for number in grown)
        need(wanted <= len(self._free), f"{wanted} blocks must be free for the new tokens", f"{len(self._free)} free")
        for row in writers:
            if self._users[self._blocks[row][-1]] > 1:  # still, after the copies before
                self._replace(row, len(self._blocks[row]) - 1)
        for row, number in enumerate(grown):
            for _ in range(number):
                self._append(row, self._take())
        device = self._table.device
        positions = [torch.arange(length, end, device=device) for length, end in zip(self.lengths, ends, strict=True)]
        self.lengths = ends
        starts = itertools.accumulate(counts, initial=0)
        lens, starts = torch.tensor([*ends, *starts], dtype=torch.int32, device=device).tensor_split([len(ends)])
        positions = torch.cat(positions) if len(positions) > 1 else positions[0]
        return Batch(positions, max(ends), self._table, lens, starts)

    def room(self, row):
        """How many more tokens of sequence ``row`` there is room for."""
        length, partial = self.lengths[row], self.lengths[row] % self.block_size
        copies = 1 if partial and self._users[self._blocks[row][-1]] > 1 else 0
        free = (len(self._free) - copies) * self.block_size + (self.block_size - partial if partial else 0)
        return max(0, min(self.max_length - length, free))

    def truncate(self, row, length):
        """Forget what sequence ``row`` holds from token ``length`` on."""
        need(0 <= length <= self.lengths[row], f"length must be 0 to {self.lengths[row]}, the tokens held", length)
        self.lengths[row] = length
        while len(self._blocks[row]) > -(-length // self.block_size):
            self._release(self._blocks[row].pop())

    def share(self, source, target, length):
        """Make the first ``length`` tokens of sequence ``source`` those of ``target``, without copying a block."""
        need(
            0 <= length <= self.lengths[source], f"length must be 0 to {self.lengths[source]}, the tokens held", length
        )
        if source == target:
            return self.truncate(target, length)
        self.truncate(target, 0)
        for block in self._blocks[source][: -(-length // self.block_size)]:
            self._users[block] += 1
            self._append(target, block)
        self.lengths[target] = length

    def grow(self, max_length):
        """Make room for sequences of ``max_length`` tokens; what is held is copied once."""
        more = -(-max_length // self.block_size) - self._table.shape[1]
        if more > 0:
            old, added = len(self._users), more * self.batch_size
            for name in ("keys", "values"):
                held = getattr(self, name)
                wider = held.new_empty(held.shape[0], old + added, *held.shape[2:])
                wider[:, :old] = held
                setattr(self, name, wider)
            self._users += [0] * added
            self._free = [*range(old, old + added)][::-1] + self._free
            self._table = torch.nn.functional.pad(self._table, (0, more))
        self.max_length = max(self.max_length, max_length)

    def memory(self):
        """Bytes allocated."""
        return self.keys.nbytes + self.values.nbytes

    @property
    def free_blocks(self):
        return len(self._free)

    def _shared_writers(self, counts):
        """The rows, one by one, whose next token goes into a block that another sequence has too."""
        for row, count in enumerate(counts):
            if count and self.lengths[row] % self.block_size > 0 and self._users[self._blocks[row][-1]] > 1:
                yield row

    def _take(self):
        block = self._free.pop()
        self._users[block] = 1
        return block

    def _append(self, row, block):
        self._table[row, len(self._blocks[row])] = block
        self._blocks[row].append(block)

    def _replace(self, row, index):
        """Give ``row`` a copy of its own of a shared block."""
        old, new = self._blocks[row][index], self._take()
        self.keys[:, new], self.values[:, new] = self.keys[:, old], self.values[:, old]
        self._blocks[row][index] = self._table[row, index] = new
        self._release(old)

    def _release(self, block):
        self._users[block] -= 1
        if self._users[block] == 0:
            self._free.append(block)


def need(condition, rule, came):
    if not condition:
        raise ModelError(f"cache: {rule}, came {came}")
