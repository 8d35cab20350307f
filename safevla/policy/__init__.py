"""The vision-language-action policy, its processor, its checkpoints and its acting agent."""

from safevla.errors import CheckpointError
from safevla.policy.agent import PolicyAgent, load_policy
from safevla.policy.checkpoint import read_policy, save_policy
from safevla.policy.configuration_safevla import SafeVLAConfig
from safevla.policy.modeling_safevla import VLAOutput, VLAPolicy, build_policy
from safevla.policy.processing_safevla import SafeVLAProcessor

__all__ = [
    "CheckpointError",
    "PolicyAgent",
    "SafeVLAConfig",
    "SafeVLAProcessor",
    "VLAOutput",
    "VLAPolicy",
    "build_policy",
    "load_policy",
    "read_policy",
    "save_policy",
]
