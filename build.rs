//! A new migration alone rebuilds the binary that carries it.

#[expect(clippy::print_stdout, reason = "how a build script speaks to cargo")]
fn main() {
    println!("cargo:rerun-if-changed=migrations");
}
