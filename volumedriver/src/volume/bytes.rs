//! Little-endian fields in fixed-size blocks. Offsets are given by the format pages; a slice out of range is a bug of
//! this program, never of the input: every block has its full length before it is read.

pub(crate) fn u16_at(block: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(block[offset..offset + 2].try_into().expect("2 bytes"))
}

pub(crate) fn u32_at(block: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(block[offset..offset + 4].try_into().expect("4 bytes"))
}

pub(crate) fn u64_at(block: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(block[offset..offset + 8].try_into().expect("8 bytes"))
}

pub(crate) fn put_u16(block: &mut [u8], offset: usize, value: u16) {
    block[offset..offset + 2].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u32(block: &mut [u8], offset: usize, value: u32) {
    block[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
}

pub(crate) fn put_u64(block: &mut [u8], offset: usize, value: u64) {
    block[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

/// CRC-32 of `block` as if the four bytes at `crc_offset` were zero: how every block gets its checksum.
pub(crate) fn crc_without(block: &[u8], crc_offset: usize) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[..crc_offset]);
    hasher.update(&[0; 4]);
    hasher.update(&block[crc_offset + 4..]);
    hasher.finalize()
}
