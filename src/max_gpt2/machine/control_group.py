"""The limits that a container or a service has been given, which the machine's own numbers do not show."""

from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def limits(name: str, controller: str = "", mount: Path = MOUNT, membership: Path = MEMBERSHIP) -> list[str]:
    """Return what a file such as `memory.max` says for this process, and for the groups around it.

    With a `controller`, such as "memory", it is a file of the first version of control groups.
    """
    try:
        lines = [line.split(":", 2) for line in membership.read_text().splitlines()]
    except OSError:
        return []
    paths = [path for _, controllers, path in lines if controller in controllers.split(",")]
    if not paths:
        return []
    root = mount / controller
    group = root / paths[0].lstrip("/")
    around = [one for one in (group, *group.parents) if one.is_relative_to(root)]
    # In a container, its own group is often mounted as the root, and the path leads nowhere.
    return [text for one in around if (text := _read(one / name))]


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
