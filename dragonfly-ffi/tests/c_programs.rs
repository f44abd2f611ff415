//! The library as C sees it: programs in C and C++ against the shared and the static library, under sanitizers and
//! valgrind where they are to be had.

#![allow(clippy::unwrap_used)]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use dragonfly_suite::World;
use tempfile::TempDir;

/// The libraries under the names that programs look for.
struct Built {
    dir: TempDir,
}

/// Native libraries that a static libdragonfly wants.
const NATIVE: &[&str] = &["-lpthread", "-ldl", "-lm", "-lgcc_s", "-lc"];

impl Built {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = std::env::current_exe().unwrap();
        let built = built.parent().unwrap();
        for (from, to) in [
            ("libdragonfly.so", "libdragonfly.so"),
            ("libdragonfly.so", "libdragonfly.so.1"),
            ("libdragonfly.a", "libdragonfly.a"),
        ] {
            std::os::unix::fs::symlink(built.join(from), dir.path().join(to)).unwrap();
        }
        Self { dir }
    }

    /// Compiles a program. Warnings are errors.
    fn compile(&self, compiler: &str, source: &str, name: &str, flags: &[&str], shared: bool) -> PathBuf {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let program = self.dir.path().join(name);
        let mut command = Command::new(compiler);
        command.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-O1"]).args(flags);
        command.arg("-I").arg(root.join("include")).arg("-o").arg(&program).arg(root.join("tests/c").join(source));
        if shared {
            command.arg("-L").arg(self.dir.path()).arg("-ldragonfly");
            command.arg(format!("-Wl,-rpath,{}", self.dir.path().display()));
        } else {
            command.arg(self.dir.path().join("libdragonfly.a"));
        }
        command.args(NATIVE);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        program
    }
}

/// Runs a program against a world; what it prints last is its verdict.
fn run<I: AsRef<OsStr>>(program: &Path, before: &[&str], arguments: &[I], verdict: &str) {
    let mut words = before.iter().map(OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(arguments);
    command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0").env("UBSAN_OPTIONS", "halt_on_error=1");
    let output = command.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && out.contains(verdict), "{command:?}: {}\n{out}\n{err}", output.status);
    println!("{}", out.trim_end());
}

/// Whether a tool is there. On CI it must be: nothing is skipped there.
fn there(tool: &str) -> bool {
    let found = Command::new(tool).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        assert!(std::env::var_os("CI").is_none(), "{tool} is not installed");
        println!("skipped: {tool} is not installed");
    }
    found
}

/// Whether programs with AddressSanitizer can be linked and run.
fn sanitizers() -> bool {
    let dir = tempfile::tempdir().unwrap();
    let (source, program) = (dir.path().join("empty.c"), dir.path().join("empty"));
    std::fs::write(&source, "int main(void) { return 0; }\n").unwrap();
    let compiled = Command::new("cc").arg("-fsanitize=address,undefined").arg("-o").arg(&program).arg(&source).output();
    let works = compiled.is_ok_and(|output| output.status.success())
        && Command::new(&program).output().is_ok_and(|output| output.status.success());
    if !works {
        assert!(std::env::var_os("CI").is_none(), "the C compiler has no sanitizers");
        println!("skipped: the C compiler has no sanitizers");
    }
    works
}

struct Scene {
    runtime: tokio::runtime::Runtime,
    world: Option<World>,
    built: Built,
}

impl Scene {
    fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let world = runtime.block_on(World::start()).unwrap();
        Self { runtime, world: Some(world), built: Built::new() }
    }

    /// What a program is told: the origin, a token.
    fn arguments(&self) -> [String; 2] {
        let world = self.world.as_ref().unwrap();
        [world.origin(), world.tokens().unwrap().0]
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some(world) = self.world.take() {
            let stopped = self.runtime.block_on(world.stop());
            assert!(std::thread::panicking() || stopped.is_ok(), "{stopped:?}");
        }
    }
}

const PLAIN: &[&str] = &["-std=c99", "-D_GNU_SOURCE"];

const SANITIZED: &[&str] = &["-std=c99", "-D_GNU_SOURCE", "-fsanitize=address,undefined", "-fno-omit-frame-pointer"];

/// Threads that are still ending have memory of the C library's: "possibly lost". Values that were never set are not looked
/// for: in some runs memcheck takes a division of 128 bits, optimised, for one of such.
const VALGRIND: &[&str] = &[
    "valgrind",
    "-q",
    "--error-exitcode=9",
    "--undef-value-errors=no",
    "--leak-check=full",
    "--errors-for-leak-kinds=definite",
];

/// What must not be done, done: wrongly, with nothing, and from several threads at once.
const MISUSE: &[&str] = &["abuse", "null", "threads"];

/// Compiles the programs of misuse and runs each.
fn misuse(scene: &Scene, kind: &str, flags: &[&str], shared: bool, before: &[&str]) {
    for name in MISUSE {
        let program = scene.built.compile("cc", &format!("{name}.c"), &format!("{name}{kind}"), flags, shared);
        run(&program, before, &scene.arguments(), &format!("{name}: ok"));
    }
}

#[test]
fn misuse_is_answered() {
    let scene = Scene::new();
    misuse(&scene, "", PLAIN, true, &[]);
    misuse(&scene, "-static", PLAIN, false, &[]);
}

#[test]
fn misuse_is_answered_under_sanitizers() {
    if sanitizers() {
        misuse(&Scene::new(), "-asan", SANITIZED, true, &[]);
    }
}

#[test]
fn misuse_is_answered_under_valgrind() {
    if there("valgrind") {
        misuse(&Scene::new(), "-valgrind", PLAIN, true, VALGRIND);
    }
}

#[test]
fn the_header_is_valid_c99_and_cpp() {
    let built = Built::new();
    let program =
        built.compile("cc", "header.c", "header-c99", &["-std=c99", "-Wconversion", "-Wstrict-prototypes"], true);
    run::<&str>(&program, &[], &[], "header: ok");
    if !there("c++") {
        return;
    }
    for standard in ["-std=c++11", "-std=c++20"] {
        let program = built.compile("c++", "header.c", "header-cpp", &["-x", "c++", standard], true);
        run::<&str>(&program, &[], &[], "header: ok");
    }
}

/// Runs the behaviour suite in C, the case of many downloads with this number `at_once`. Its own scene each: the table
/// counts on a fresh one.
fn suite(name: &str, flags: &[&str], before: &[&str], at_once: usize) {
    let scene = Scene::new();
    let world = scene.world.as_ref().unwrap();
    let (peer, all) = world.tokens().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("cases.txt");
    std::fs::write(
        &table,
        dragonfly_suite::TABLE.replace(" many path=/many/ count=1000", &format!(" many path=/many/ count={at_once}")),
    )
    .unwrap();
    let program = scene.built.compile("cc", "suite.c", name, flags, true);
    let (table, dir) = (table.display().to_string(), dir.path().display().to_string());
    run(&program, before, &[table, world.origin(), peer, all, dir], " passed, 0 failed");
}

#[test]
fn the_behaviour_suite() {
    suite("suite", PLAIN, &[], 1000);
}

#[test]
fn the_behaviour_suite_under_sanitizers() {
    if sanitizers() {
        suite("suite-asan", SANITIZED, &[], 1000);
    }
}

#[test]
fn the_behaviour_suite_under_valgrind() {
    if there("valgrind") {
        // All threads take turns: of a thousand downloads some would see no byte for longer than any may.
        suite("suite-valgrind", PLAIN, VALGRIND, 100);
    }
}
