"""Which volumes a cluster has, and whose each is."""

import json
import ssl
from typing import Iterable, List, Optional

from . import registries, wire
from .contacts import ArakoonNodeConfig
from .enums import DTLConfigMode, ObjectType
from .store import Compare, Pair, Write
from .tags import OwnerTag


class ObjectRegistration:
    """A volume, and whose it is."""

    def __init__(
        self,
        node_id: str,
        object_id: str,
        owner_tag: OwnerTag,
        dtl_config_mode: DTLConfigMode,
        object_type: ObjectType,
    ) -> None:
        """Keeps all."""
        self._node_id = node_id
        self._object_id = object_id
        self._owner_tag = owner_tag
        self._dtl_config_mode = dtl_config_mode
        self._object_type = object_type

    def node_id(self) -> str:
        """The node that owns it."""
        return self._node_id

    def object_id(self) -> str:
        """Its id."""
        return self._object_id

    def owner_tag(self) -> OwnerTag:
        """Which ownership this is."""
        return self._owner_tag

    def dtl_config_mode(self) -> DTLConfigMode:
        """Who chooses its DTL."""
        return self._dtl_config_mode

    def object_type(self) -> ObjectType:
        """Volume or template."""
        return self._object_type

    def __repr__(self) -> str:
        """Id and owner."""
        return f"ObjectRegistration({self._object_id} of {self._node_id})"


class ObjectRegistryClient:
    """The registered volumes of a cluster, in the configuration store."""

    def __init__(
        self,
        vrouter_cluster_id: str,
        arakoon_cluster_id: str,
        arakoon_node_configs: Iterable[ArakoonNodeConfig],
        *,
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        """Connects to nobody.

        ``arakoon_node_configs`` are members of the configuration store (etcd's API); ``arakoon_cluster_id`` is not
        used. With ``tls`` connections to them are encrypted.
        """
        self._cluster_id = wire.text_argument("vrouter_cluster_id", vrouter_cluster_id)
        wire.text_argument("arakoon_cluster_id", arakoon_cluster_id)
        self._store = registries.store(arakoon_node_configs, tls=tls)

    # The method `list` hides the type of this name in annotations of the methods behind it.
    def get_all_registrations(self) -> List[ObjectRegistration]:
        """Tell all registrations, in the order of ids."""
        folder = self._folder()
        found = (registration(folder, pair) for pair in self._store.below(folder))
        return [one for one in found if one is not None]

    def list(self) -> List[str]:
        """List the ids of all volumes."""
        return [one.object_id() for one in self.get_all_registrations()]

    def find(self, object_id: str) -> Optional[ObjectRegistration]:
        """Tell whose a volume is; ``None``: there is no such volume."""
        folder = self._folder()
        pair = self._store.get(key(folder, object_id))
        return None if pair is None else registration(folder, pair)

    def _register_base_volume(self, node_id: str, object_id: str, nspace: str) -> ObjectRegistration:
        """Register a volume that is not registered. The namespace is the node's own affair."""
        wire.text_argument("nspace", nspace)
        folder = self._folder()
        place = key(folder, object_id)
        if not self._store.transact([Compare(place, 0)], [Write(place, owned_by(node_id))]):
            raise RuntimeError(f"{object_id} is registered already")
        return self._must_find(object_id)

    def _register_file(self, node_id: str, object_id: str) -> ObjectRegistration:
        """Refused: there are no files, only volumes."""
        raise RuntimeError("_register_file: there are no files here, only volumes")

    def _register_clone(
        self,
        node_id: str,
        clone_id: str,
        clone_nspace: str,
        parent_id: str,
        maybe_parent_snap: Optional[str],
    ) -> ObjectRegistration:
        """Register a clone. There are none yet."""
        raise NotImplementedError("_register_clone: ovs has no clones yet")

    def _unregister(self, object_registration: ObjectRegistration) -> None:
        """Forget a volume, if it still belongs to the node that the registration says."""
        self._replace(object_registration.object_id(), object_registration.node_id(), None)

    def _migrate(self, object_id: str, from_node: str, to_node: str) -> ObjectRegistration:
        """Give a volume of one node to another."""
        self._replace(object_id, from_node, owned_by(to_node))
        return self._must_find(object_id)

    def _set_volume_as_template(self, node_id: str, object_id: str) -> ObjectRegistration:
        """Make a template of a volume. There are none yet."""
        raise NotImplementedError("_set_volume_as_template: ovs has no templates yet")

    def _replace(self, object_id: str, owner: str, value: Optional[bytes]) -> None:
        place = key(self._folder(), object_id)
        pair = self._store.get(place)
        if pair is None:
            raise RuntimeError(f"{object_id} is not registered")
        actual = registries.read(pair.value).get("vrouter_id")
        if actual != owner:
            raise RuntimeError(f"{object_id} belongs to {actual}, not to {owner}")
        if not self._store.transact([Compare(place, pair.mod_revision)], [Write(place, value)]):
            raise RuntimeError(f"the registration of {object_id} was changed meanwhile; try again")

    def _must_find(self, object_id: str) -> ObjectRegistration:
        found = self.find(object_id)
        if found is None:
            raise RuntimeError(f"{object_id} is not registered")
        return found

    def _folder(self) -> str:
        return registries.vpool_of(self._store, self._cluster_id) + "volumes/"


def key(folder: str, object_id: str) -> str:
    """Where the registration of a volume is."""
    if not wire.text_argument("object_id", object_id) or "/" in object_id:
        raise RuntimeError(f"{object_id!r} is no id of a volume")
    return f"{folder}{object_id}/config"


def owned_by(node_id: str) -> bytes:
    """A registration as nodes write it."""
    wire.text_argument("node_id", node_id)
    return json.dumps({"vrouter_id": node_id}, separators=(",", ":"), ensure_ascii=False).encode()


def registration(folder: str, pair: Pair) -> Optional[ObjectRegistration]:
    """What a key says; ``None``: it is no registration."""
    object_id, _, rest = pair.key[len(folder) :].partition("/")
    document = registries.read(pair.value)
    owner = document.get("vrouter_id")
    if rest != "config" or not isinstance(owner, str):
        return None
    mode = wire.maybe_enum(DTLConfigMode, document, "dtl_config_mode")
    kind = wire.maybe_enum(ObjectType, document, "object_type")
    return ObjectRegistration(
        owner,
        object_id,
        OwnerTag(wire.numbered(document, "owner_tag")),
        DTLConfigMode.AUTOMATIC if mode is None else mode,
        ObjectType.BASE if kind is None else kind,
    )
