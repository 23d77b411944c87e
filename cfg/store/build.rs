//! Makes the messages that members exchange and keep from the definitions in `proto/`.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../api/proto");
    let descriptors = protox::compile(["peer.proto"], ["proto", "../api/proto"])?;
    tonic_prost_build::configure()
        .bytes(".")
        // The same state is the same bytes.
        .btree_map(".ovs.store.v1.State.members")
        .extern_path(".etcdserverpb", "::cfg_api::etcdserverpb")
        .extern_path(".mvccpb", "::cfg_api::mvccpb")
        .compile_fds(descriptors)?;
    Ok(())
}
