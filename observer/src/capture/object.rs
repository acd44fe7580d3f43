//! The kernel programs that this binary carries.

/// The BPF object file; empty when the binary was built without it. Aligned to 8 bytes, as its
/// ELF structures want.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/observer-ebpf"));

/// What to say when there is no object.
pub const NOT_BUILT: &str = "this binary was built without the kernel programs: build it with \
                             `cargo xtask build`";

/// The object, or [`NOT_BUILT`].
pub fn embedded() -> Result<&'static [u8], &'static str> {
    if OBJECT.is_empty() {
        Err(NOT_BUILT)
    } else {
        Ok(OBJECT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_embedded_object_is_an_aligned_elf_file_for_bpf() {
        // Without a BPF toolchain the object is empty, and that is what has to be said.
        let Ok(object) = embedded() else {
            assert!(OBJECT.is_empty());
            return;
        };
        assert_eq!(object.as_ptr().align_offset(8), 0);
        assert_eq!(object.get(..4), Some(b"\x7fELF".as_slice()));
        // e_machine, EM_BPF.
        assert_eq!(object.get(18..20), Some([247, 0].as_slice()));
    }
}
