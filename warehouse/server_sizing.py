"""The embedded server's configuration, sized from the machine so that nobody has to tune it."""

import os
from pathlib import Path

MEGABYTE = 1024 * 1024
_CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
_SMALL_SHARED_MEMORY = 512 * MEGABYTE


def configuration(*, socket_dir: Path, disk: Path) -> str:
    """The text of oversight.conf; `disk` is a folder on the disk that holds the data."""
    memory = machine_memory() // MEGABYTE
    processors = os.cpu_count() or 1
    free_disk = _free_disk(disk) // MEGABYTE
    max_wal = max(256, min(8192, free_disk // 20))
    values: dict[str, str | int] = {
        "listen_addresses": "",
        "unix_socket_directories": str(socket_dir),
        "unix_socket_permissions": "0700",
        "max_connections": 60 + 20 * min(processors, 16),
        "shared_buffers": f"{max(64, min(memory // 4, 8192))}MB",
        "effective_cache_size": f"{max(128, memory // 2)}MB",
        "work_mem": f"{max(4, min(memory // 200, 128))}MB",
        "maintenance_work_mem": f"{max(32, min(memory // 16, 1024))}MB",
        "max_parallel_workers": processors,
        "max_parallel_workers_per_gather": min(processors, 4),
        "max_wal_size": f"{max_wal}MB",
        "min_wal_size": f"{max(80, max_wal // 8)}MB",
        "wal_compression": "on",
        "checkpoint_timeout": "15min",
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_duration_statement": "5s",
        "log_lock_waits": "on",
        "client_connection_check_interval": "1s",
        "idle_in_transaction_session_timeout": "10min",
    }
    if _shared_memory_is_small():
        # Containers often have 64 MB there, and a parallel query then fails for lack of space.
        values["dynamic_shared_memory_type"] = "mmap"
    lines = [f"{name} = {_quoted(value)}" for name, value in values.items()]
    return (
        "# Written at each start; put your own settings into postgresql.conf below the include.\n"
        + ("\n".join(lines) + "\n")
    )


def machine_memory() -> int:
    """Bytes of memory that this process may use: the machine's, or the container's if less."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        try:
            text = path.read_text(encoding="ascii").strip()
        except OSError:
            continue
        if text.isdigit():
            memory = min(memory, int(text))
    return memory


def _shared_memory_is_small() -> bool:
    try:
        status = os.statvfs("/dev/shm")
    except OSError:
        return False
    return status.f_frsize * status.f_blocks < _SMALL_SHARED_MEMORY


def _free_disk(path: Path) -> int:
    status = os.statvfs(path)
    return status.f_frsize * status.f_bavail


def _quoted(value: str | int) -> str:
    return "'" + str(value).replace("'", "''") + "'"
