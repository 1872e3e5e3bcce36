"""Map the checkout's folders to one installed package; everything else is in pyproject.toml.

`upstream`, `benchmarks` and `downstream_configs` stand at the top of a checkout, where s3prl's
users look for them, and install as `s3prl_speechclip.upstream`, and so on; measured results stay in
the checkout.
"""

from __future__ import annotations

from setuptools import find_namespace_packages, find_packages, setup

NAME = "s3prl_speechclip"
MAPPED = ("upstream", "benchmarks", "downstream_configs")
DATA = [
    f"**/*.{ending}"
    for ending in (
        "csv",
        "html",
        "json",
        "md",
        "npy",
        "png",
        "safetensors",
        "txt",
        "yaml",
        "yml",
    )
]

packages = find_packages(include=[NAME, f"{NAME}.*"])
package_dir = {NAME: NAME}
for folder in MAPPED:
    package_dir[f"{NAME}.{folder}"] = folder
    packages.append(f"{NAME}.{folder}")
    # Folders of data or of s3prl's convention have no __init__.py of their own.
    inner = find_namespace_packages(folder, exclude=["results", "results.*"])
    packages += [f"{NAME}.{folder}.{name}" for name in inner]

setup(
    packages=packages,
    package_dir=package_dir,
    package_data={NAME: ["py.typed", *DATA], **{f"{NAME}.{folder}": DATA for folder in MAPPED}},
    exclude_package_data={f"{NAME}.benchmarks": ["results/*", "results/**/*"]},
    # Only what is named above: files that happen to lie in a checkout stay out of the wheel.
    include_package_data=False,
)
