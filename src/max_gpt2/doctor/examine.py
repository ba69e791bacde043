"""Look at everything."""

from max_gpt2.doctor.cpu import cpu
from max_gpt2.doctor.finding import Finding
from max_gpt2.doctor.hub import hub
from max_gpt2.doctor.memory import memory
from max_gpt2.doctor.packages import compare_extra, max_version
from max_gpt2.doctor.places import compile_cache, hub_cache


def examine() -> list[Finding]:
    """Look at the machine, the packages, the folders and the hub, which may take a few seconds."""
    return [look() for look in (cpu, memory, max_version, compile_cache, hub_cache, hub, compare_extra)]
