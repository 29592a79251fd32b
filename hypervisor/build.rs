//! Hands the linker script to the image, and to nothing else of the package.

fn main() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets the manifest directory");
    println!("cargo:rerun-if-changed=link.ld");
    println!("cargo:rustc-link-arg-bin=hypervisor-image=-T{root}/link.ld");
}
