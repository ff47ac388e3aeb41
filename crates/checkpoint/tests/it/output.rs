//! The output directory: nothing before it is finished, resumed by the same job only, one process at a time.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use xgraft_checkpoint::{
    AdapterConfig, AdapterWriter, Dtype, Error, OutputDir, PlannedTensor, write_atomic,
};

use crate::support::{assert_says, contents};

struct Place {
    _temp: TempDir,
    out: PathBuf,
    partial: PathBuf,
}

fn place() -> Place {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().canonicalize().unwrap();
    Place {
        out: root.join("o"),
        partial: root.join("o.partial"),
        _temp: temp,
    }
}

fn job() -> Value {
    json!({"rank": 8, "inputs": {"b": 1, "a": 2}})
}

#[test]
fn nothing_is_there_before_the_commit_and_all_of_it_after() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("a/b.txt", b"x").unwrap();
    fs::write(work.path().join("c"), "y").unwrap();
    assert!(!work.resumed() && !at.out.exists());
    work.commit().unwrap();
    assert!(!at.partial.exists());
    let names: Vec<_> = contents(&at.out)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, [PathBuf::from("a/b.txt"), PathBuf::from("c")]);
    assert_eq!(
        fs::read_dir(&at.out).unwrap().count(),
        2,
        "no hidden folder is left"
    );
}

#[test]
fn an_existing_output_is_refused_without_force_and_left_alone() {
    let at = place();
    fs::create_dir(&at.out).unwrap();
    let error = OutputDir::create(&at.out, false, &job()).unwrap_err();
    assert_says(&error, &[&at.out.display().to_string(), "exists"]);
    assert!(error.hint().unwrap().contains("--force"));
    assert!(!at.partial.exists());
}

#[test]
fn with_force_the_old_output_stays_until_the_commit() {
    let at = place();
    fs::create_dir(&at.out).unwrap();
    fs::write(at.out.join("old"), "").unwrap();
    let work = OutputDir::create(&at.out, true, &job()).unwrap();
    work.write_atomic("new", b"").unwrap();
    assert!(at.out.join("old").exists());
    work.commit().unwrap();
    assert_eq!(contents(&at.out), [(PathBuf::from("new"), vec![])]);
    let beside: Vec<_> = fs::read_dir(at.out.parent().unwrap()).unwrap().collect();
    assert_eq!(beside.len(), 1, "{beside:?}");
}

#[test]
fn a_dropped_job_is_resumed_by_the_same_job_in_any_key_order() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("half", b"1").unwrap();
    drop(work);
    let same = json!({"inputs": {"a": 2, "b": 1}, "rank": 8});
    let work = OutputDir::create(&at.out, false, &same).unwrap();
    assert!(work.resumed());
    assert_eq!(fs::read(work.path().join("half")).unwrap(), b"1");
}

#[test]
fn a_file_that_a_kill_left_half_written_is_gone_after_the_resumption() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("modules/a.json", b"1").unwrap();
    let config = AdapterConfig::new("base", 1, vec![]);
    let tensors = vec![PlannedTensor::new("w", Dtype::F32, [4])];
    std::mem::forget(AdapterWriter::create(work.path(), config, tensors).unwrap());
    assert_eq!(fs::read_dir(work.path()).unwrap().count(), 3);
    drop(work);
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    assert!(work.resumed());
    work.commit().unwrap();
    let names: Vec<_> = contents(&at.out)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names, [PathBuf::from("modules/a.json")]);
}

#[test]
fn the_leftovers_of_another_job_are_refused_or_with_force_discarded() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("half", b"1").unwrap();
    drop(work);
    let other = json!({"rank": 16});
    let error = OutputDir::create(&at.out, false, &other).unwrap_err();
    assert_says(&error, &["o.partial", "other inputs or options"]);
    assert!(error.hint().unwrap().contains("--force"));
    assert!(at.partial.join("half").exists());
    let work = OutputDir::create(&at.out, true, &other).unwrap();
    assert!(!work.resumed() && !work.path().join("half").exists());
}

#[test]
fn a_directory_of_someone_else_is_never_touched() {
    for force in [false, true] {
        let at = place();
        fs::create_dir(&at.partial).unwrap();
        fs::write(at.partial.join("precious"), "").unwrap();
        let error = OutputDir::create(&at.out, force, &job()).unwrap_err();
        assert_says(&error, &["o.partial", "none of ours"]);
        assert_eq!(contents(&at.partial).len(), 1);
    }
}

#[test]
fn a_job_that_wrote_nothing_leaves_nothing() {
    let at = place();
    drop(OutputDir::create(&at.out, false, &job()).unwrap());
    assert!(!at.partial.exists());
}

#[test]
fn a_discarded_job_leaves_nothing() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("half", b"1").unwrap();
    work.discard().unwrap();
    assert!(!at.partial.exists());
}

#[test]
fn a_second_process_is_kept_out_until_the_first_is_gone() {
    let at = place();
    let first = OutputDir::create(&at.out, false, &job()).unwrap();
    first.write_atomic("half", b"1").unwrap();
    let error = OutputDir::create(&at.out, true, &json!({"other": 1})).unwrap_err();
    assert!(matches!(error, Error::OutputLocked { .. }), "{error}");
    assert!(at.partial.join("half").exists());
    drop(first);
    assert!(OutputDir::create(&at.out, false, &job()).unwrap().resumed());
}

#[test]
fn an_output_that_appeared_meanwhile_is_not_replaced() {
    let at = place();
    let work = OutputDir::create(&at.out, false, &job()).unwrap();
    work.write_atomic("new", b"1").unwrap();
    fs::create_dir(&at.out).unwrap();
    assert!(matches!(
        work.commit().unwrap_err(),
        Error::OutputExists { .. }
    ));
    assert!(at.partial.join("new").exists());
}

#[test]
fn paths_that_are_no_new_directory_are_refused() {
    let at = place();
    for path in ["/", "..", "a/.."] {
        let error = OutputDir::create(path.as_ref(), true, &job()).unwrap_err();
        assert!(matches!(error, Error::OutputPath { .. }), "{error}");
    }
    fs::write(&at.out, "a file").unwrap();
    let error = OutputDir::create(&at.out, true, &job()).unwrap_err();
    assert_says(&error, &["a directory to replace", "a file"]);
    let here = std::env::current_dir().unwrap();
    let error = OutputDir::create(&here, true, &job()).unwrap_err();
    assert_says(&error, &["current"]);
}

#[test]
fn missing_parents_are_made() {
    let at = place();
    let deep = at.out.join("x/y/z");
    let work = OutputDir::create(&deep, false, &job()).unwrap();
    work.write_atomic("f", b"").unwrap();
    work.commit().unwrap();
    assert!(deep.join("f").exists());
}

#[test]
fn an_input_that_would_be_replaced_is_refused() {
    let at = place();
    fs::create_dir_all(at.out.join("base")).unwrap();
    let work = OutputDir::create(&at.out, true, &job()).unwrap();
    for input in [at.out.clone(), at.out.join("base"), at.partial.clone()] {
        assert_says(
            &work.refuse_input(&input).unwrap_err(),
            &["does not replace an input"],
        );
    }
    work.refuse_input(at.out.parent().unwrap()).unwrap();
    work.refuse_input(&at.out.with_file_name("other")).unwrap();
}

#[test]
fn a_link_to_a_directory_is_replaced_and_its_target_kept() {
    let at = place();
    let target = at.out.with_file_name("target");
    fs::create_dir(&target).unwrap();
    fs::write(target.join("kept"), "").unwrap();
    std::os::unix::fs::symlink(&target, &at.out).unwrap();
    let work = OutputDir::create(&at.out, true, &job()).unwrap();
    work.write_atomic("new", b"").unwrap();
    work.commit().unwrap();
    assert!(at.out.join("new").exists() && !at.out.is_symlink());
    assert!(target.join("kept").exists());
}

#[test]
fn a_file_is_replaced_whole() {
    let at = place();
    write_atomic(&at.out, b"one").unwrap();
    write_atomic(&at.out, b"two").unwrap();
    assert_eq!(fs::read(&at.out).unwrap(), b"two");
    assert_eq!(fs::read_dir(at.out.parent().unwrap()).unwrap().count(), 1);
    let error = write_atomic(&at.out.join("below/a/file"), b"").unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
}
