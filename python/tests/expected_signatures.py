"""Classes, methods, arguments and defaults of the original's binding, from the facts about it (section 2).

One line a method: name, then its arguments in order; ``t`` is ``req_timeout_secs=None``. ``()`` behind a name of a value
class means that it is a method, else it is a property.
"""

from typing import Dict

#: Classes with methods.
METHODS: Dict[str, str] = {
    "StorageRouterClient": """
        __init__(vrouter_cluster_id, cluster_contacts, client_timeout_secs=None)
        create_volume(target_path, metadata_backend_config, volume_size, node_id="", t)
        create_clone(target_path, metadata_backend_config, parent_volume_id, parent_snapshot_id, node_id="", t)
        create_clone_from_template(target_path, metadata_backend_config, parent_volume_id, node_id="", t)
        truncate(object_id, new_size, t)
        unlink(target_path, t)
        update_metadata_backend_config(volume_id, metadata_backend_config, t)
        list_volumes(node_id=None, t)
        list_halted_volumes(node_id, t)
        list_volumes_by_path(t)
        info_volume(volume_id, t, redirect_fenced=True)
        statistics_volume(volume_id, reset=False, t)
        statistics_node(node_id, reset=False, t)
        list_client_connections(node_id, t)
        create_snapshot(volume_id, snapshot_id="", metadata="", t)
        list_snapshots(volume_id, t)
        info_snapshot(volume_id, snapshot_id, t)
        delete_snapshot(volume_id, snapshot_id, t)
        rollback_volume(volume_id, snapshot_id="", t)
        set_volume_as_template(volume_id, t)
        get_volume_id(path, t)
        get_object_id(path, t)
        server_revision(t)
        client_revision()
        volume_potential(node_id, t)
        stop_object(object_id, delete_local_data, t, node_id=None)
        restart_object(object_id, force_restart, t)
        migrate(object_id, node_id, force_restart, t)
        mark_node_offline(node_id, t)
        mark_node_online(node_id, t)
        info_cluster(t)
        update_cluster_node_configs(node_id="", t)
        set_sync_ignore(volume_id, number_of_syncs_to_ignore, maximum_time_to_ignore_syncs_in_seconds, t)
        get_sync_ignore(volume_id, t)
        set_sco_multiplier(volume_id, sco_multiplier, t)
        get_sco_multiplier(volume_id, t)
        set_tlog_multiplier(volume_id, tlog_multiplier, t)
        get_tlog_multiplier(volume_id, t)
        set_sco_cache_max_non_disposable_factor(volume_id, max_non_disposable_factor, t)
        get_sco_cache_max_non_disposable_factor(volume_id, t)
        set_metadata_cache_capacity(volume_id, num_pages, t)
        get_metadata_cache_capacity(volume_id, t)
        get_dtl_config_mode(volume_id, t)
        get_dtl_config(volume_id, t)
        set_manual_dtl_config(node_id, config, t)
        set_automatic_dtl_config(node_id, t)
        set_readcache_behaviour(volume_id, behaviour, t)
        get_readcache_behaviour(volume_id, t)
        set_readcache_mode(volume_id, mode, t)
        get_readcache_mode(volume_id, t)
        set_readcache_limit(volume_id, limit, t)
        get_readcache_limit(volume_id, t)
        schedule_backend_sync(volume_id, t)
        is_volume_synced_up_to_tlog(volume_id, tlog_name, t)
        is_volume_synced_up_to_snapshot(volume_id, snapshot_name, t)
        make_locked_client(nspace, update_interval_secs=3, grace_period_secs=7)
        sco_cache_mount_point_info(node_id, t)
        client_timeout_secs()
        _backend_connection_pool(volume_id, t)
        _scrub_manager_counters(node_id, t)
    """,
    "LocalStorageRouterClient": """
        __init__(config_location, client_timeout=None)
        update_configuration(config, t)
        get_running_configuration(report_defaults=False, t)
        destroy_filesystem(t)
        get_general_logging_level(t)
        set_general_logging_level(severity, t)
        list_logging_filters(t)
        add_logging_filter(filter_match, severity, t)
        remove_logging_filter(filter_match, t)
        remove_logging_filters(t)
        malloc_info(t)
        list_cluster_cache_handles(t)
        get_cluster_cache_handle_info(handle, t)
        remove_cluster_cache_handle(handle, t)
        _remove_namespace_from_sco_cache(nspace, t)
    """,
    "LockedClient": """
        __enter__()
        __exit__(exc_type, exc_value, traceback)
        get_scrubbing_workunits(start_snapshot_id=None, end_snapshot_id=None, t)
        scrub(work_unit, scratch_dir, region_size_exponent=25, fill_ratio=0.9, verbose_scrubbing=True, scrubber_binary="ovs_scrubber", severity=Severity.info, log_sinks=[], backend_config=None)
        apply_scrubbing_result(scrubbing_work_result, t)
    """,
    "Scrubber": """
        scrub(work_unit, scratch_dir, region_size_exponent=25, fill_ratio=0.9, apply_immediately=False, verbose_scrubbing=True, backend_config=None)
    """,
    "MDSClient": """
        __init__(mds_node_config, timeout_secs=20)
        create_namespace(nspace)
        list_namespaces()
        remove_namespace(nspace)
        get_role(nspace)
        set_role(nspace, role, owner_tag=OwnerTag(0))
        get_cork_id(nspace)
        get_scrub_id(nspace)
        catch_up(nspace, dry_run)
        get_table_counters(nspace, reset)
        get_owner_tag(nspace)
        _get_page(nspace, page_address)
    """,
    "ClusterRegistry": """
        __init__(vfs_cluster_id, ara_cluster_id, ara_node_configs, ara_timeout_secs=60)
        set_node_configs(cluster_node_configs)
        get_node_configs()
        erase_node_configs()
        get_node_status_map()
    """,
    "ObjectRegistryClient": """
        __init__(vrouter_cluster_id, arakoon_cluster_id, arakoon_node_configs)
        list()
        get_all_registrations()
        find(object_id)
        _register_base_volume(node_id, object_id, nspace)
        _register_file(node_id, object_id)
        _register_clone(node_id, clone_id, clone_nspace, parent_id, maybe_parent_snap)
        _unregister(object_registration)
        _migrate(object_id, from_node, to_node)
        _set_volume_as_template(node_id, object_id)
    """,
    "FileSystemMetaDataClient": """
        __init__(cluster_id, arakoon_cluster_id, arakoon_node_configs)
        list_path(path)
        list(object_id)
        find_path(path)
        find_id(object_id)
        lookup(object_id)
        _mknod(parent_id, object_id, name, type, permissions, user_id, group_id)
        _unlink(parent_id, name)
    """,
    "ClusterContact": "__init__(host, port)",
    "ArakoonNodeConfig": "__init__(node_id, host, port)",
    "ClusterNodeConfig": """
        __init__(vrouter_id, host, message_port, xmlrpc_port, failovercache_port, network_server_uri=None, xmlrpc_host=None, failovercache_host=None, node_distance_map=None)
    """,
    "MDSNodeConfig": "__init__(address, port)",
    "MDSMetaDataBackendConfig": """
        __init__(mds_node_configs, apply_relocations_to_slaves=ApplyRelocationsToSlaves.T, timeout_secs=20, max_tlogs_behind=None)
    """,
    "ArakoonMetaDataBackendConfig": "__init__(ara_cluster_id, ara_node_configs)",
    "RocksDBMetaDataBackendConfig": "__init__()",
    "TCBTMetaDataBackendConfig": "__init__()",
    "DTLConfig": "__init__(host, port, mode=DTLMode.ASYNCHRONOUS)",
    "VolumeInfo": "__init__()",
    "SnapshotInfo": "__init__()",
    "Statistics": "__init__()",
    "PerformanceCounters": "__init__()",
    "RequestSizeCounter": "__init__()",
    "RequestUSecsCounter": "__init__()",
    "ClientInfo": "__init__(object_id, ip, port)",
    "ScrubManagerCounters": "__init__()",
    "ClusterCacheHandleInfo": "__init__()",
    "Logger": """
        setupLogging(LogFile="", SeverityLevel=Severity.info, LogRotation=LogRotationType.F, ProgName="LoggerToolCut")
        teardownLogging()
        getGeneralLoggingLevel()
        setGeneralLoggingLevel(severity)
        listFilters()
        addFilter(name, severity)
        removeFilter(name)
        removeAllFilters()
        loggingEnabled()
        enableLogging()
        disableLogging()
    """,
    "Logging": """
        __init__(name)
        __call__(Severity, Message)
    """,
    "PythonTestHelpers": """
        generate_exceptions(exception_type)
        generate_node_status_map()
        generate_update_report()
    """,
}

#: Readable members of value classes.
MEMBERS: Dict[str, str] = {
    "ClusterContact": "host port",
    "ArakoonNodeConfig": "node_id host port",
    "ClusterNodeConfig": "vrouter_id host message_host message_port xmlrpc_host xmlrpc_port failovercache_host "
    "failovercache_port network_server_uri node_distance_map",
    "MDSNodeConfig": "address() port()",
    "MDSMetaDataBackendConfig": "node_configs() apply_relocations_to_slaves() timeout_secs() max_tlogs_behind()",
    "ArakoonMetaDataBackendConfig": "cluster_id() node_configs()",
    "DTLConfig": "host port mode",
    "VolumeInfo": "volume_id namespace parent_namespace parent_snapshot_id volume_size lba_size lba_count "
    "cluster_multiplier sco_multiplier failover_mode failover_ip failover_port halted footprint stored object_type "
    "parent_volume_id vrouter_id metadata_backend_config cluster_cache_handle owner_tag cluster_cache_limit",
    "SnapshotInfo": "snapshot_id timestamp uuid stored metadata in_backend",
    "Statistics": "sco_cache_hits sco_cache_misses cluster_cache_hits cluster_cache_misses metadata_store_hits "
    "metadata_store_misses stored partial_read_fast partial_read_slow performance_counters",
    "PerformanceCounters": "write_request_size write_request_usecs unaligned_write_request_size "
    "backend_write_request_usecs backend_write_request_size read_request_size read_request_usecs "
    "unaligned_read_request_size backend_read_request_size backend_read_request_usecs sync_request_usecs",
    "RequestSizeCounter": "events() min() max() sum() sum_of_squares() distribution()",
    "RequestUSecsCounter": "events() min() max() sum() sum_of_squares() distribution()",
    "ClientInfo": "object_id ip port",
    "SCOCacheMountPointInfo": "path capacity free used choking offlined",
    "ScrubManagerCounters": "parent_scrubs_ok parent_scrubs_nok clone_scrubs_ok clone_scrubs_nok",
    "ClusterCacheHandleInfo": "cluster_cache_handle entries max_entries map_stats",
    "MDSTableCounters": "total_tlogs_read incremental_updates full_rebuilds",
    "ObjectRegistration": "node_id() object_id() owner_tag() dtl_config_mode() object_type()",
    "DirectoryEntry": "type() object_id() inode() group_id() user_id() permissions()",
    "BuildInfo": "revision() version_revision() branch() timestamp() repository_url()",
}

#: Exceptions, all of them direct subclasses of Exception.
EXCEPTIONS = (
    "MaxRedirectsExceeded ClusterNotReachable NodeNotReachable ObjectNotFound InvalidOperation "
    "SnapshotNotFound FileExists InsufficientResources PreviousSnapshotNotOnBackend "
    "ObjectStillHasChildren SnapshotNameAlreadyExists VolumeRestartInProgress VolumeHalted"
).split()

#: What the framework imports when it is loaded.
FRAMEWORK = (
    "ClusterContact ClusterNodeConfig ClusterNotReachableException DTLConfig DTLConfigMode DTLMode Logger "
    "MaxRedirectsExceededException MDSMetaDataBackendConfig MDSNodeConfig ObjectNotFoundException "
    "ReadCacheBehaviour ReadCacheMode SnapshotNotFoundException Role Severity Statistics VolumeInfo "
    "ArakoonNodeConfig ClusterRegistry LocalStorageRouterClient MDSClient ObjectRegistryClient "
    "StorageRouterClient VolumeRestartInProgressException FileSystemMetaDataClient"
).split()

#: What section 2 has and this package has not, and why.
LEFT_OUT: Dict[str, str] = {
    "_debug": "parts of the original's inside without a stable interface (ScrubManagerClient, ScrubWork, the ToolCut "
    "classes, BackendInterface): they read its on-disk formats and Arakoon keys, which do not exist here",
    "ScrubbingResult": "reads the original's on-disk format",
    "Events_pb2": "the envelope of messages over AMQP, which nothing here sends",
}

#: Modules with events, and the names in them that the framework looks for.
EVENTS: Dict[str, str] = {
    "FileSystemEvents_pb2": "volume_create volume_resize volume_delete file_rename up_and_running owner_changed",
    "VolumeDriverEvents_pb2": "volumedriver_error dtl_state_transition",
}
