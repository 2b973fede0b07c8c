"""The keys and values of the tokens that a model has seen."""

import torch


class KVCache:
    """Room for ``max_length`` tokens of each sequence of a batch, allocated once.

    ``length`` tokens are held; setting it lower forgets the last ones. For inference only: no gradient passes.
    """

    def __init__(self, config, batch_size, max_length, device="cpu", dtype=torch.float32):
        shape = (config.num_hidden_layers, batch_size, config.num_key_value_heads, max_length, config.head_dim)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.batch_size, self.max_length = batch_size, max_length
        self.length = 0

    def append(self, layer, k, v):
        """Add ``k`` and ``v [B, Hk, S, D]`` behind the tokens held; the views ``[B, Hk, length + S, D]`` of all.

        The new tokens count in ``length`` once the last layer has added its own.
        """
        end = self.length + k.shape[2]
        self.keys[layer, :, :, self.length : end] = k
        self.values[layer, :, :, self.length : end] = v
        if layer == len(self.keys) - 1:
            self.length = end
        return self.keys[layer, :, :, :end], self.values[layer, :, :, :end]

    def memory(self):
        """Bytes allocated."""
        return self.keys.nbytes + self.values.nbytes
