//! Records the commit that is built, for reports; builds the OpenFHE bridge (feature `openfhe`).

#[cfg(feature = "openfhe")]
mod bridge {
    use std::path::{Path, PathBuf};
    use std::process::Command;

    /// What to do when something is missing.
    const REMEDY: &str = "Either build and install OpenFHE 1.4.2 or newer and set OPENFHE_ROOT to its prefix, or run \
                          third_party/openfhe/fetch.sh for the prebuilt one (Linux x86-64; needs python3 with pip).";

    /// Stops the build with one message and no backtrace.
    fn stop(message: &str) -> ! {
        eprintln!("\nthe feature `openfhe` cannot be built: {message}\n");
        println!("cargo::error=the feature `openfhe` cannot be built: {message}");
        std::process::exit(1);
    }

    fn variable(name: &str) -> PathBuf {
        match std::env::var_os(name) {
            Some(value) => value.into(),
            None => stop(&format!("cargo did not set {name}")),
        }
    }

    /// Compiles the generated bridge and `cpp/`, and tells cargo what to link.
    pub fn build() {
        for path in ["cpp", "src/backend/openfhe/bridge.rs", "third_party/openfhe/prebuilt/STAMP"] {
            println!("cargo::rerun-if-changed={path}");
        }
        for name in ["OPENFHE_ROOT", "CMAKE_PREFIX_PATH", "CMAKE"] {
            println!("cargo::rerun-if-env-changed={name}");
        }
        let root = variable("CARGO_MANIFEST_DIR");
        let out = variable("OUT_DIR");
        let cmake = std::env::var("CMAKE").unwrap_or_else(|_| "cmake".to_owned());
        if !Command::new(&cmake).arg("--version").output().is_ok_and(|output| output.status.success()) {
            stop(&format!(
                "`{cmake}` does not run. Install CMake 3.16 or newer (`apt-get install cmake` or `pip install cmake`)."
            ));
        }

        // The generated bridge first: on the linker's command line, what uses a library comes before it.
        cxx_build::bridge("src/backend/openfhe/bridge.rs").std("c++17").compile("cachemir_bridge");

        let built = cmake::Config::new(root.join("cpp"))
            .profile("Release")
            .define("CXX_BRIDGE_INCLUDE", out.join("cxxbridge/include"))
            .define("PREBUILT", root.join("third_party/openfhe/prebuilt"))
            .build_target("cachemir_openfhe")
            .build()
            .join("build");
        link(&built);
    }

    /// Reads the link.txt that CMake wrote.
    fn link(built: &Path) {
        let file = built.join("link.txt");
        let Ok(text) = std::fs::read_to_string(&file) else {
            stop(&format!("CMake wrote no {}", file.display()));
        };
        println!("cargo::rustc-link-search=native={}", built.display());
        println!("cargo::rustc-link-lib=static=cachemir_openfhe");
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "missing" => stop(&format!("no OpenFHE was found. Tried: {value}. {REMEDY}")),
                "version" => println!("cargo::rustc-env=CACHEMIR_OPENFHE_VERSION={value}"),
                "search" => {
                    println!("cargo::rustc-link-search=native={value}");
                    // Programs and tests of this package find the shared library where it was found at build time.
                    println!("cargo::rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{value}");
                    println!("cargo::metadata=library_folder={value}");
                }
                "dylib" | "static" => println!("cargo::rustc-link-lib={key}={value}"),
                _ => stop(&format!("{} has an unknown line `{key}={value}`", file.display())),
            }
        }
    }
}

/// What `git` prints for `arguments`, where there is a checkout.
fn git(arguments: &[&str]) -> Option<String> {
    let output = std::process::Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// The commit that `cargo package` wrote into the package, with `-packaged`.
fn packaged_commit(root: &std::path::Path) -> Option<String> {
    let text = std::fs::read_to_string(root.join(".cargo_vcs_info.json")).ok()?;
    let (_, hash) = text.split_once("\"sha1\"")?;
    let hash: String = hash.chars().filter(char::is_ascii_hexdigit).take(12).collect();
    (hash.len() == 12).then(|| format!("{hash}-packaged"))
}

/// The commit of this repository, with `-dirty` when the sources differ from it. `None` where the sources lie in no
/// checkout, or in the checkout of something else.
fn checked_out_commit(root: &std::path::Path) -> Option<String> {
    let top = git(&["rev-parse", "--show-toplevel"])?;
    if std::fs::canonicalize(top).ok()? != std::fs::canonicalize(root).ok()? {
        return None;
    }
    let log = git(&["rev-parse", "--git-path", "logs/HEAD"]);
    if let Some(log) = log.filter(|log| std::fs::exists(log).unwrap_or(false)) {
        println!("cargo::rerun-if-changed={log}");
    }
    git(&["describe", "--always", "--exclude=*", "--abbrev=12", "--dirty"])
}

/// Sets CACHEMIR_COMMIT, which every report names: the packaged commit, that of the checkout, or, for a package made
/// outside a checkout, the version with `-packaged`.
fn record_commit() {
    println!("cargo::rerun-if-changed=build.rs");
    // A change of the sources must not build the bridge anew.
    if cfg!(not(feature = "openfhe")) {
        println!("cargo::rerun-if-changed=src");
    }
    let root = std::path::PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let version = || format!("{}-packaged", std::env::var("CARGO_PKG_VERSION").unwrap_or_default());
    let commit = packaged_commit(&root).or_else(|| checked_out_commit(&root)).unwrap_or_else(version);
    println!("cargo::rustc-env=CACHEMIR_COMMIT={commit}");
}

fn main() {
    record_commit();
    #[cfg(feature = "openfhe")]
    bridge::build();
}
