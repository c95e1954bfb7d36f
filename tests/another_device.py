"""A device that is not the CPU on machines that have no other: it finds code that forgets where its tensors are.

Its tensors hold values in main memory, and say that they are on torch's `meta` device. As on a GPU, a computation that
reads them beside a tensor of the CPU fails, single numbers apart.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map_only

DEVICE = torch.device("meta")
MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


class _Elsewhere(torch.Tensor):
    """A tensor that says that it is elsewhere."""

    @staticmethod
    def __new__(cls, here: torch.Tensor) -> "_Elsewhere":
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset(), "dtype": here.dtype}
        elsewhere = torch.Tensor._make_wrapper_subclass(cls, here.size(), **layout, device=DEVICE)
        elsewhere.here = here
        return elsewhere

    def __repr__(self) -> str:
        return f"_Elsewhere({self.here!r})"

    def tolist(self) -> Any:
        return self.here.tolist()

    @classmethod
    def __torch_dispatch__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Makes tensors elsewhere where they are asked for there."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(function, args, kwargs or {})


def _computed(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, torch.Tensor)]
    elsewhere = any(isinstance(tensor, _Elsewhere) for tensor in tensors)
    strangers = [tensor for tensor in tensors if tensor.dim() and not isinstance(tensor, _Elsewhere)]
    if elsewhere and strangers and function not in MOVES:
        raise RuntimeError(f"{function} reads tensors of the CPU, of shape {strangers[0].shape}, beside others.")
    wanted = kwargs.get("device")
    if wanted is not None:
        elsewhere = torch.device(wanted).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args_here, kwargs_here = tree_map_only(_Elsewhere, lambda tensor: tensor.here, (args, kwargs))
    found = function(*args_here, **kwargs_here)
    if not elsewhere:
        return found
    found = tree_map_only(torch.Tensor, _Elsewhere, found)
    return return_and_correct_aliasing(function, args, kwargs, found)


@contextmanager
def another_device() -> Iterator[torch.device]:
    """Yields a device for `.to(device)` and `device=device`, which is one of its own within the context."""
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)  # tied weights stay tied
    makers = {name: partial(_made, getattr(torch, name)) for name in ("tensor", "as_tensor")}
    # Autocast knows no such device.
    no_autocast = {"is_autocast_enabled": lambda *device: False, "autocast": mock.MagicMock()}
    try:
        with mock.patch.multiple(torch, **makers, **no_autocast), _Factories():
            yield DEVICE
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


def _made(make: Callable[..., torch.Tensor], data: Any, device: Any = None, **options: Any) -> torch.Tensor:
    """Makes a tensor of Python's numbers, which torch would leave out for its own `meta` device."""
    made = make(data, **options)
    return made if device is None else made.to(device)
