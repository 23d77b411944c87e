"""All that programs use, under the names they know."""

from .client import LockedClient, StorageRouterClient
from .cluster_registry import ClusterRegistry
from .contacts import ArakoonNodeConfig, ClusterContact, ClusterNodeConfig
from .dtl import DTLConfig
from .enums import (
    ApplyRelocationsToSlaves,
    ClusterNodeState,
    DirectoryEntryType,
    DTLConfigMode,
    DTLMode,
    LogRotationType,
    ObjectType,
    ReadCacheBehaviour,
    ReadCacheMode,
    Role,
    Severity,
)
from .errors import (
    ClusterNotReachableException,
    ConfigurationProblem,
    ConfigurationUpdateException,
    FileExistsException,
    InsufficientResourcesException,
    InvalidOperationException,
    MaxRedirectsExceededException,
    NodeNotReachableException,
    ObjectNotFoundException,
    ObjectStillHasChildrenException,
    PreviousSnapshotNotOnBackendException,
    ServerFault,
    SnapshotNameAlreadyExistsException,
    SnapshotNotFoundException,
    VolumeHaltedException,
    VolumeRestartInProgressException,
)
from .file_system import DirectoryEntry, FileSystemMetaDataClient
from .local import AppliedUpdates, LocalStorageRouterClient
from .logger import BuildInfo, Logger, Logging
from .mds import MDSClient, MDSTableCounters
from .metadata_backend import (
    ArakoonMetaDataBackendConfig,
    MDSMetaDataBackendConfig,
    MDSNodeConfig,
    MetaDataBackendConfig,
    RocksDBMetaDataBackendConfig,
    TCBTMetaDataBackendConfig,
)
from .node_info import ClientInfo, ClusterCacheHandleInfo, SCOCacheMountPointInfo, ScrubManagerCounters
from .object_registry import ObjectRegistration, ObjectRegistryClient
from .reflection import PythonTestHelpers
from .scrubber import Scrubber
from .snapshot_info import SnapshotInfo
from .statistics import PerformanceCounters, RequestSizeCounter, RequestUSecsCounter, Statistics
from .tags import ClusterCacheHandle, OwnerTag
from .volume_info import VolumeInfo
from .waiting import Progress

__all__ = [
    "AppliedUpdates",
    "ApplyRelocationsToSlaves",
    "ArakoonMetaDataBackendConfig",
    "ArakoonNodeConfig",
    "BuildInfo",
    "ClientInfo",
    "ClusterCacheHandle",
    "ClusterCacheHandleInfo",
    "ClusterContact",
    "ClusterNodeConfig",
    "ClusterNodeState",
    "ClusterNotReachableException",
    "ClusterRegistry",
    "ConfigurationProblem",
    "ConfigurationUpdateException",
    "DTLConfig",
    "DTLConfigMode",
    "DTLMode",
    "DirectoryEntry",
    "DirectoryEntryType",
    "FileExistsException",
    "FileSystemMetaDataClient",
    "InsufficientResourcesException",
    "InvalidOperationException",
    "LocalStorageRouterClient",
    "LockedClient",
    "LogRotationType",
    "Logger",
    "Logging",
    "MDSClient",
    "MDSMetaDataBackendConfig",
    "MDSNodeConfig",
    "MDSTableCounters",
    "MaxRedirectsExceededException",
    "MetaDataBackendConfig",
    "NodeNotReachableException",
    "ObjectNotFoundException",
    "ObjectRegistration",
    "ObjectRegistryClient",
    "ObjectStillHasChildrenException",
    "ObjectType",
    "OwnerTag",
    "PerformanceCounters",
    "PreviousSnapshotNotOnBackendException",
    "Progress",
    "PythonTestHelpers",
    "ReadCacheBehaviour",
    "ReadCacheMode",
    "RequestSizeCounter",
    "RequestUSecsCounter",
    "RocksDBMetaDataBackendConfig",
    "Role",
    "SCOCacheMountPointInfo",
    "ScrubManagerCounters",
    "Scrubber",
    "ServerFault",
    "Severity",
    "SnapshotInfo",
    "SnapshotNameAlreadyExistsException",
    "SnapshotNotFoundException",
    "Statistics",
    "StorageRouterClient",
    "TCBTMetaDataBackendConfig",
    "VolumeHaltedException",
    "VolumeInfo",
    "VolumeRestartInProgressException",
]
