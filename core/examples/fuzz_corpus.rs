//! `npm run fuzz -- --write` after a change of a format: writes the valid examples of the fuzzing corpus anew.
//! `npm run fuzz -- --keep` after fuzzing: takes the shortest valid finds of each target into the corpus.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

#[allow(unreachable_pub)] // a library to the fuzz targets
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, examples};

/// Finds of each target that are kept.
const KEPT: usize = 4;

fn write_examples(corpus: &Path) -> io::Result<()> {
    for example in examples() {
        let path = corpus.join(example.target).join(&example.name);
        // What would differ by chance alone stays as it is.
        let target = TARGETS.iter().find(|(name, _)| *name == example.target).map(|(_, target)| target);
        let still_serves =
            |there: Vec<u8>| there.len() == example.bytes.len() && target.is_some_and(|target| target(&there));
        if !example.varies || !fs::read(&path).is_ok_and(still_serves) {
            fs::write(path, example.bytes)?;
        }
    }
    Ok(())
}

fn keep_finds(grown: &Path, corpus: &Path) -> io::Result<()> {
    for (name, target) in TARGETS {
        // A target that was not fuzzed has found nothing.
        let Ok(found) = fs::read_dir(grown.join(name)) else { continue };
        let mut finds = found.map(|file| fs::read(file?.path())).collect::<io::Result<Vec<_>>>()?;
        finds.retain(|bytes| target(bytes));
        finds.sort_by_key(Vec::len);
        for (at, bytes) in finds.iter().take(KEPT).enumerate() {
            fs::write(corpus.join(name).join(format!("find-{at}")), bytes)?;
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let fuzz: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "fuzz"].iter().collect();
    let corpus = fuzz.join("corpus");
    match env::args().nth(1).as_deref() {
        Some("write") => write_examples(&corpus),
        Some("keep") => keep_finds(&fuzz.join("grown"), &corpus),
        Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: fuzz_corpus write|keep")),
    }
}
