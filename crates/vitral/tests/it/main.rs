//! Integration tests of the library, in one binary.

mod dinov2;
mod explain;
mod image;
mod parity;
mod predict;
mod relative;
mod resnet;
mod rooms;
mod stem;
mod tiny_vits;
mod weights;

/// A file or folder of data that lies beside the project on some machines, in `VITRAL_SHARED_DATA` or `../shared/data`.
pub(crate) fn shared_data(name: &str) -> Option<std::path::PathBuf> {
    let beside = || std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = std::env::var_os("VITRAL_SHARED_DATA").map_or_else(beside, Into::into);
    Some(folder.join(name)).filter(|path| path.exists())
}
