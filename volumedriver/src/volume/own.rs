//! Settings of one volume. Its manifest keeps them; what is not set is as the parameters have it for all.

/// Flushes that are answered without a sync of the disk.
///
/// A flush of a client may be answered at once if fewer than `flushes` were since the last sync and that began less
/// than `seconds` ago. Whatever such flushes stand for is synced when `seconds` are over. 0 of either: each flush is
/// done. FUA writes and the last flush of a shutdown are always done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncIgnore {
    /// In a row, at most.
    pub flushes: u32,
    /// After the last sync began, at most.
    pub seconds: u32,
}

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnSettings {
    /// Flushes that are not done.
    pub sync_ignore: SyncIgnore,
    /// Pages of its map in memory at most, of those that the volumes of its data thread share. `None`: as many as there
    /// is room for; never `Some(0)`. Fewer than [`super::Settings::map_pages_min`] count as that many.
    pub map_pages: Option<u32>,
}

/// One of them gets another value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnChange {
    /// [`OwnSettings::sync_ignore`].
    SyncIgnore(SyncIgnore),
    /// [`OwnSettings::map_pages`]; 1 or more.
    MapPages(Option<u32>),
}

impl OwnSettings {
    /// With `change`.
    pub fn with(self, change: OwnChange) -> Self {
        match change {
            OwnChange::SyncIgnore(sync_ignore) => Self { sync_ignore, ..self },
            OwnChange::MapPages(map_pages) => Self { map_pages, ..self },
        }
    }
}
