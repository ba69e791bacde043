"""The packages: MAX in the version that this was written for, and what only `verify` needs."""

import importlib
import importlib.metadata
import re

from max_gpt2.doctor.finding import Finding


def max_version() -> Finding:
    """Say whether MAX is there, in the version that is pinned, and can be imported."""
    wanted, found = pinned("max"), installed("max")
    facts = {"version": found, "pinned": wanted}
    install = f"Run `pip install max=={wanted}`." if wanted else "Install max-gpt2 again."
    if found is None:
        return Finding("MAX", "is not installed", "problem", install, facts)
    if wanted and found != wanted:
        says = f"{found}, but max-gpt2 was written for {wanted}: MAX changes with every release"
        return Finding("MAX", says, "problem", install, facts)
    try:
        importlib.import_module("max.engine")
    except Exception as error:  # whatever it is, the user has to know
        says = f"{found}, which cannot be imported ({type(error).__name__}: {error})"
        return Finding("MAX", says, "problem", f"It needs 64-bit Linux or macOS. {install}", facts)
    return Finding("MAX", f"{found}, the version that is pinned", facts=facts)


def compare_extra() -> Finding:
    """Say whether PyTorch and transformers are there."""
    versions = {"PyTorch": installed("torch"), "transformers": installed("transformers")}
    says = ", ".join(f"{name} {version or 'is not installed'}" for name, version in versions.items())
    if all(versions.values()):
        return Finding("for verify", says, facts=versions)
    return Finding("for verify", says, "note", "Only verify needs both: `pip install 'max-gpt2[compare]'`.", versions)


def installed(package: str) -> str | None:
    """Return the version of a package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def pinned(package: str) -> str | None:
    """Return the only version of a package that max-gpt2 asks for, as its own metadata has it."""
    try:
        requirements = importlib.metadata.requires("max-gpt2") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = (re.fullmatch(rf"{package}==([\w.]+)", one.replace(" ", "")) for one in requirements)
    return next((one[1] for one in found if one), None)
