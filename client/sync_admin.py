"""The administration of the blocking SDK (sync.py)."""

from . import admin as _admin
from .background import blocking
from .mirrored import Mirrored


class Admin(Mirrored):
    """Mirrors ``ottla.client.Admin``."""

    create_topic = blocking(_admin.Admin.create_topic)
    delete_topic = blocking(_admin.Admin.delete_topic)
    grow_topic = blocking(_admin.Admin.grow_topic)
    alter_topic_config = blocking(_admin.Admin.alter_topic_config)
    alter_broker_config = blocking(_admin.Admin.alter_broker_config)
    topic_config = blocking(_admin.Admin.topic_config)
    broker_config = blocking(_admin.Admin.broker_config)
    list_topics = blocking(_admin.Admin.list_topics)
    describe_topic = blocking(_admin.Admin.describe_topic)
    delete_records = blocking(_admin.Admin.delete_records)
    offsets_for_time = blocking(_admin.Admin.offsets_for_time)
    list_groups = blocking(_admin.Admin.list_groups)
    describe_group = blocking(_admin.Admin.describe_group)
    delete_group = blocking(_admin.Admin.delete_group)
    set_offsets = blocking(_admin.Admin.set_offsets)
    delete_offsets = blocking(_admin.Admin.delete_offsets)
    move_partitions = blocking(_admin.Admin.move_partitions)
    elect_leaders = blocking(_admin.Admin.elect_leaders)
    drain_node = blocking(_admin.Admin.drain_node)
    undrain_node = blocking(_admin.Admin.undrain_node)
    replica_states = blocking(_admin.Admin.replica_states)
    describe_cluster = blocking(_admin.Admin.describe_cluster)
