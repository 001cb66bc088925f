"""How much memory there is, and which errors say that there is too little."""

from pathlib import Path

import torch

from bvpo_analysis.errors import StudyError

_CGROUP = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")


def available_bytes(device: torch.device | str = "cpu") -> int | None:
    """Memory that can still be allocated on a device; None where the system does not tell.

    On the CPU it is the smaller of what the system and what the process's control group have left.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = []
    try:
        rows = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines() if ":" in line)
        found.append(int(rows["MemAvailable"].split()[0]) * 1024)
    except (OSError, KeyError, ValueError, IndexError):
        pass
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        if limit != "max":
            found.append(max(int(limit) - int((_CGROUP / "memory.current").read_text()), 0))
    except (OSError, ValueError):
        pass
    return min(found) if found else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch says that an allocation failed, on any device.

    Example:
        >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"))
        True
        >>> is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
        False
    """
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, StudyError):  # which has its own remedy
        return False
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        said in text
        for said in ("can't allocate memory", "cannot allocate memory", "out of memory", "not enough memory")
    )


def release(device: torch.device | str = "cpu") -> None:
    """Give cached device memory back, so that a smaller attempt finds it."""
    if torch.device(device).type == "cuda":
        torch.cuda.empty_cache()
