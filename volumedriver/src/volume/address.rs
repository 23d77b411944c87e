//! The core's names for places and moments: newtypes, so that no two bare numbers can be swapped.

use std::fmt;

/// Bytes in a cluster, the unit of the map. Every file offset of the log is a multiple of it.
pub const CLUSTER_SIZE: usize = 4096;
/// log2 of [`CLUSTER_SIZE`].
pub const CLUSTER_SHIFT: u32 = 12;
/// Cluster addresses need this many bits at most: 2^40 clusters are 4 EiB.
pub const ADDRESS_BITS: u32 = 40;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(
    /// Index of a cluster in its volume.
    ClusterAddress(u64)
);
number!(
    /// Number of an SCO within its volume; given once, never again.
    ScoNumber(u32)
);
number!(
    /// Place of a record in its stream; the predecessor's plus one, across incarnations.
    Sequence(u64)
);
number!(
    /// Counts the times a volume's log was opened for writing or cut.
    Incarnation(u64)
);
number!(
    /// A segment file of the disk's pool.
    SegmentId(u32)
);
number!(
    /// A run of one volume; given once, never again.
    RunId(u64)
);
number!(
    /// Counts the versions of a volume's manifest.
    ManifestVersion(u64)
);

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (index, byte) in self.0.iter().enumerate() {
                    if matches!(index, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                let digits: Vec<u8> = text.bytes().filter(|&b| b != b'-').collect();
                if digits.len() != 32 || text.len() != 36 {
                    return Err(());
                }
                let mut bytes = [0; 16];
                for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
                    let pair = std::str::from_utf8(pair).map_err(|_| ())?;
                    *byte = u8::from_str_radix(pair, 16).map_err(|_| ())?;
                }
                Ok(Self(bytes))
            }
        }
    };
}

identity!(
    /// A volume, whatever its name. Printed as a UUID.
    VolumeId
);
identity!(
    /// One boot of the host (`/proc/sys/kernel/random/boot_id`): tells a dead process from a power loss.
    BootId
);

impl ClusterAddress {
    /// The cluster that holds the byte at `offset`.
    pub fn containing(offset: u64) -> Self {
        Self(offset >> CLUSTER_SHIFT)
    }

    /// The first cluster that starts at or behind `offset`.
    pub fn at_or_after(offset: u64) -> Self {
        Self(offset.div_ceil(CLUSTER_SIZE as u64))
    }

    /// Byte offset of its start.
    pub fn offset(self) -> u64 {
        self.0 << CLUSTER_SHIFT
    }

    /// The address `count` clusters further.
    pub fn plus(self, count: u64) -> Self {
        Self(self.0 + count)
    }
}

impl Sequence {
    /// The next one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Where a cluster's data lies: clone id, version and number of the SCO, block in it. 8 bytes, layout in
/// `docs/formats/run.md`. Clone id and version are 0 until clones and the backend use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(u64);

impl Location {
    /// Block `block` of SCO `sco` of this volume itself.
    pub fn new(sco: ScoNumber, block: u16) -> Self {
        Self(u64::from(sco.0) << 16 | u64::from(block))
    }

    /// From its stored form.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Its stored form.
    pub fn raw(self) -> u64 {
        self.0
    }

    /// The SCO.
    pub fn sco(self) -> ScoNumber {
        ScoNumber((self.0 >> 16) as u32)
    }

    /// Block in the SCO, in units of [`CLUSTER_SIZE`].
    pub fn block(self) -> u16 {
        self.0 as u16
    }

    /// True if `self` is the block behind `previous` in the same SCO.
    pub fn follows(self, previous: Location) -> bool {
        self.0 == previous.0 + 1 && self.sco() == previous.sco()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_keeps_its_parts() {
        let location = Location::new(ScoNumber(u32::MAX), u16::MAX);
        assert_eq!((location.sco(), location.block()), (ScoNumber(u32::MAX), u16::MAX));
        assert_eq!(Location::from_raw(location.raw()), location);
        assert!(!Location::new(ScoNumber(2), 0).follows(Location::new(ScoNumber(1), u16::MAX)));
        assert!(Location::new(ScoNumber(1), 8).follows(Location::new(ScoNumber(1), 7)));
    }

    #[test]
    fn an_identity_reads_what_it_prints() {
        let id = VolumeId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!("abc".parse::<VolumeId>(), Err(()));
        assert_eq!("é".repeat(18).parse::<VolumeId>(), Err(()));
    }
}
