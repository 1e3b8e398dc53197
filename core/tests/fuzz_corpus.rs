//! The committed fuzzing corpus on a stable compiler: every file as it is, cut at every length, with every byte changed.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

#[allow(unreachable_pub)] // a library to the fuzz targets
#[path = "../../fuzz/src/lib.rs"]
mod targets;

use targets::{TARGETS, examples};

fn fuzz_dir(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "fuzz", name].iter().collect()
}

/// The files of each target.
fn corpus() -> BTreeMap<String, Vec<(String, Vec<u8>)>> {
    let mut corpus = BTreeMap::new();
    for target in fs::read_dir(fuzz_dir("corpus")).expect("it is committed") {
        let target = target.expect("readable");
        let files: Vec<_> = fs::read_dir(target.path())
            .expect("a directory for each target")
            .map(|file| {
                let path = file.expect("readable").path();
                (path.display().to_string(), fs::read(&path).expect("readable"))
            })
            .collect();
        corpus.insert(target.file_name().into_string().expect("plain names"), files);
    }
    corpus
}

/// Positions spread over an input: all of a short one.
fn positions(len: usize) -> impl Iterator<Item = usize> {
    (0..len).step_by((len / 200).max(1))
}

#[test]
fn every_target_has_a_program_and_a_corpus_that_reaches_behind_its_first_check() {
    let corpus = corpus();
    let names: Vec<_> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(corpus.keys().map(String::as_str).collect::<Vec<_>>(), names);
    for (name, target) in TARGETS {
        assert!(fuzz_dir("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name} has a program");
        assert!(corpus[*name].iter().any(|(_, bytes)| target(bytes)), "{name}: no input of the corpus is valid");
    }
}

#[test]
fn the_corpus_cut_and_changed_breaks_no_promise() {
    let corpus = corpus();
    for (name, target) in TARGETS {
        // Each of these costs key agreements, or is a long life of a machine.
        let dear = matches!(*name, "handshake" | "transport" | "engine" | "peers" | "circuits" | "subscribers");
        for (file, bytes) in &corpus[*name] {
            eprintln!("{file}");
            target(bytes);
            for at in positions(bytes.len()).step_by(if dear { 16 } else { 1 }) {
                target(&bytes[..at]);
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = bytes.clone();
                    changed[at] ^= change;
                    target(&changed);
                }
            }
        }
    }
}

#[test]
fn the_examples_in_the_corpus_are_of_the_present_formats() {
    let corpus = corpus();
    for example in examples().iter().filter(|example| !example.varies) {
        let there = corpus[example.target].iter().any(|(_, bytes)| *bytes == example.bytes);
        assert!(there, "{} {}: run npm run fuzz -- --write", example.target, example.name);
    }
}

#[test]
fn the_examples_are_valid() {
    for example in examples() {
        let (_, target) = TARGETS.iter().find(|(name, _)| *name == example.target).expect("a target");
        // The name of a channel is no key with a signature.
        assert!(target(&example.bytes) || example.target == "identity", "{} {}", example.target, example.name);
    }
}
