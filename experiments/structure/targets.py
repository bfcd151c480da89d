"""Devices to compile for that need not be there.

XLA compiles for an NVIDIA GPU with JAX's CUDA plugin, told what an H100 is, and for a TPU with libtpu. `make structure`
installs both, and nothing of them touches a device.
"""

import importlib.metadata
import os
import pathlib
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding

# What XLA asks about an H100 SXM: NVIDIA, "H100 Tensor Core GPU Architecture" (2022), and the CUDA programming guide's
# table of compute capability 9.0.
H100 = """
gpu_device_info {
  name: "NVIDIA H100 80GB HBM3" device_vendor: "NVIDIA Corporation"
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_warp: 32 threads_per_block_limit: 1024 threads_per_core_limit: 2048
  thread_dim_limit_x: 1024 thread_dim_limit_y: 1024 thread_dim_limit_z: 64
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_core: 233472 shared_memory_per_block_optin: 232448
  l2_cache_size: 52428800 memory_bandwidth: 3352320000000 device_memory_size: 84942979072
  device_address_bits: 64
  driver_version: "13.0.0" runtime_version: "12.8.0" compile_time_toolkit_version: "12.8.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 10 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""


class Unavailable(Exception):
    """A target for which the compiler is not installed."""


class Target(NamedTuple):
    name: str
    kind: str  # "cuda" or "tpu"
    topology: str
    packages: tuple[str, ...]


TARGETS = {
    "H100": Target("NVIDIA H100", "cuda", "1x1x1", ("jax-cuda12-plugin", "jax-cuda12-pjrt", "nvidia-cuda-nvcc-cu12")),
    "v5e": Target("TPU v5e", "tpu", "v5e:2x2", ("libtpu",)),
    "v6e": Target("TPU v6e", "tpu", "v6e:2x2", ("libtpu",)),
}


def versions(target):
    """Of the compiler's packages; raises Unavailable where one is missing, or belongs to another JAX."""
    found = {}
    for package in target.packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            raise Unavailable(f"{package} is not installed") from None
    jaxlib = importlib.metadata.version("jaxlib")
    for package, version in found.items():
        if package.startswith("jax-cuda") and version != jaxlib:
            raise Unavailable(f"{package} is {version} and jaxlib {jaxlib}")
    return found


def compiler(target):
    """f, arguments as ShapeDtypeStructs → the compiled program."""
    versions(target)
    options: dict[str, Any] = {}
    if target.kind == "cuda":
        toolkit = pathlib.Path(next(iter(find_spec("nvidia").submodule_search_locations))) / "cuda_nvcc"
        options = {"xla_gpu_autotune_level": 0, "xla_gpu_cuda_data_dir": str(toolkit)}
        described = {"target_config": H100, "topology": target.topology, "platform": "cuda"}
        devices = topologies.get_topology_desc(**described).devices
    else:
        os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # it would ask the network which machine this is
        devices = topologies.get_topology_desc(target.topology, platform="tpu").devices
    there = SingleDeviceSharding(devices[0])

    def compiled(f, arguments):
        given = [jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=there) for a in arguments]
        return jax.jit(lambda *taken: f(*taken)).lower(*given).compile(compiler_options=options)

    return compiled
