"""What a layer does in a block, read off its type, name and place in any family of networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from .selection import blocks_of

ATTENTION_ROLES = ("query", "key", "value", "output")
ROLES = (*ATTENTION_ROLES, "mlp", "conv")
#: Names for several roles. All of them must be there for the first, any of them is enough for the others.
QUERY_VALUE = "query_value"
GROUPS: Mapping[str, tuple[str, ...]] = {
    QUERY_VALUE: ("query", "value"),
    "attention": ATTENTION_ROLES,
    "all_linear": (*ATTENTION_ROLES, "mlp"),
}

_PROJECTIONS = {
    "query": ("query", "q_proj", "q", "to_q", "wq", "q_lin"),
    "key": ("key", "k_proj", "k", "to_k", "wk", "k_lin"),
    "value": ("value", "v_proj", "v", "to_v", "wv", "v_lin"),
}
#: One layer that makes all three.
_FUSED = ("qkv", "qkv_proj", "query_key_value", "in_proj", "wqkv", "Wqkv", "to_qkv")
_OUTPUT = ("o_proj", "out_proj", "to_out", "out_lin", "proj", "dense", "output", "wo", "0")
#: Between stages, not in a block's feed-forward part.
_NOT_MLP = ("reduction", "downsample")


def layer_roles(backbone: nn.Module) -> dict[str, tuple[str, ...]]:
    """The linear layers and convolutions of the backbone's blocks by name, each with the roles that it plays.

    Layers without a role are left out: merging of patches, grouped and dilated convolutions.
    """
    found: dict[str, tuple[str, ...]] = {}
    for block_name, block in blocks_of(backbone):
        for name, module in block.named_modules():
            roles: tuple[str, ...] = ()
            if isinstance(module, nn.Linear):
                roles = _linear_roles(name.split("."), block)
            elif isinstance(module, nn.Conv2d) and _is_plain(module):
                roles = ("conv",)
            if roles:
                found[f"{block_name}.{name}" if name else block_name] = roles
    return found


def _linear_roles(path: Sequence[str], block: nn.Module) -> tuple[str, ...]:
    own, parents = path[-1], path[:-1]
    if isinstance(block.get_submodule(".".join(parents)), nn.MultiheadAttention):
        return ATTENTION_ROLES  # its other projections are no layers at all, only weights
    in_attention = any("attention" in part.lower() or "attn" in part.lower() for part in parents)
    if own in _FUSED:
        return ("query", "key", "value")
    for role, names in _PROJECTIONS.items():
        if own in names:
            return (role,)
    if in_attention:
        # A number stands last only in a sequence, such as `to_out.0`.
        return ("output",) if own in _OUTPUT and (own != "0" or parents[-1] in _OUTPUT) else ()
    return () if set(path) & set(_NOT_MLP) else ("mlp",)


def _is_plain(convolution: nn.Conv2d) -> bool:
    # An update beside it is a convolution of a low rank only where each output sees every input in the same way.
    return convolution.groups == 1 and convolution.dilation == (1, 1) and convolution.padding_mode == "zeros"
