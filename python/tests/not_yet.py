"""Behaviours of the original that this server does not show: those that come later, and those that never apply.

The 72 behaviours are the tests that the original had of its C++ client (65 with any node, 7 with the node's own
configuration). All are in ``test_behaviour_*.py`` under their names, but those in ``NEVER``. A behaviour in ``LATER`` is
tried nevertheless: it is skipped when the server says that something "comes with" a feature, and fails when it works,
so that the list cannot grow old.
"""

from typing import Dict

#: By the name of the behaviour, the feature that it waits for.
LATER: Dict[str, str] = {
    # Snapshots.
    "snapshot_excessive_metadata": "snapshots",
    "snapshot_metadata": "snapshots",
    "snapshot_management": "snapshots",
    "snapshot_recreation": "snapshots",
    # Clones and templates.
    "set_as_template": "clones and templates",
    "clone": "snapshots, clones",
    "clone_from_template": "clones and templates",
    "remote_clone": "snapshots, clones",
    "prevent_orphaned_clones": "snapshots, clones",
    "prevent_rollback_beyond_clone": "snapshots, clones",
    "no_clone_from_template_with_snapshot": "clones and templates",
    # Scrubbing.
    "scrubbing": "snapshots, scrubbing",
    "limit_scrub_work": "snapshots, scrubbing",
    "fine_grained_scrub_work": "snapshots, scrubbing",
    "family_scrubbing": "clones, scrubbing",
    "templates_and_scrubbing": "templates, scrubbing",
    "locked_scrub": "snapshots, scrubbing",
    # The read cache.
    "cluster_cache_behaviour": "the read cache",
    "cluster_cache_mode": "the read cache",
    "cluster_cache_limit": "the read cache",
    "cluster_cache_handles": "the read cache",
    # DTL and MDS.
    "failovercache_config": "the DTL",
    "mds_management": "metadata servers",
    "mds_kaputt": "metadata servers",
    # A backend behind the log.
    "sco_multiplier": "a backend",
    "tlog_multiplier": "a backend",
    "max_non_disposable_factor": "a backend",
    "backend_sync_tlog": "a backend",
    "backend_sync_snapshot": "snapshots, a backend",
    "remove_sco_cache_namespace": "a backend, stopping single volumes",
    # Moving volumes between nodes.
    "restart_volume": "stopping and starting single volumes",
    "list_snapshots_while_migrating": "snapshots, the DTL, moving volumes",
    "fenced_volume_info": "moving volumes, fencing",
    "redirection_on_fencing": "moving volumes, fencing",
    "stop_fenced_instance": "moving volumes, fencing",
}

#: By the name of the behaviour, why it does not apply.
NEVER: Dict[str, str] = {
    "rmdir": "there are no folders: a path is a volume's name",
    "no_templating_of_files": "there are no files, only volumes",
    "no_clone_from_file": "there are no files, only volumes",
    "vaai_copy": "the original does not export it to Python; it copies files of VMware, and there are no files",
}

#: All behaviours, by group, in the order of the facts about the original (section 4.3).
ALL: Dict[str, str] = {
    "connection": "no_one_listening wrong_cluster_id max_redirects max_redirects_exceeded fallback",
    "redirect": "redirect redirection_response",
    "listing": "list_volumes list_volumes_by_path list_volumes_by_node list_halted_volumes volume_and_object_id",
    "create etc.": "volume_creation volume_creation_again volume_creation_and_removal volume_resize rmdir",
    "snapshots": "snapshot_excessive_metadata snapshot_metadata snapshot_management snapshot_recreation",
    "clones / templates": "set_as_template clone clone_from_template remote_clone prevent_orphaned_clones "
    "prevent_rollback_beyond_clone no_templating_of_files no_clone_from_file no_clone_from_template_with_snapshot",
    "info / stats": "volume_queries performance_counters volume_potential revision_info sco_cache_mount_point_info",
    "scrubbing": "scrubbing limit_scrub_work fine_grained_scrub_work family_scrubbing templates_and_scrubbing "
    "locked_client locked_scrub",
    "settings": "sync_ignore sco_multiplier tlog_multiplier max_non_disposable_factor cluster_cache_behaviour "
    "cluster_cache_mode cluster_cache_limit metadata_cache_capacity failovercache_config",
    "MDS": "mds_management mds_kaputt",
    "sync": "backend_sync_tlog backend_sync_snapshot",
    "cluster": "update_cluster_node_configs restart_volume list_snapshots_while_migrating vaai_copy",
    "fencing": "fenced_volume_info redirection_on_fencing stop_fenced_instance halted_volume_exception",
    "disabled": "pylist list_methods",
    "LocalPythonClientTest": "get_running_configuration update_configuration general_loglevel logging_filters "
    "malloc_info cluster_cache_handles remove_sco_cache_namespace",
}
