"""Administration of ovs volume drivers.

Everything is in :mod:`volumedriver.storagerouter.storagerouterclient`; ``python -m volumedriver`` lists volumes.
"""

__version__ = "0.1.0"
