//! Directory operations at power loss.

use super::*;
use std::collections::BTreeSet;
use uring::sim::DirLoss;

fn create(disk: &dyn Disk, path: &str, bytes: &[u8]) -> Arc<dyn File> {
    let file = disk.open(path.as_ref(), OpenMode::CreateNew).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
    file
}

/// Survivors of three creations in each of two directories, over all seeds.
fn survivors(dirs: DirLoss) -> BTreeSet<[String; 2]> {
    let survivors = SEEDS.map(|seed| {
        let world = SimWorld::new(seed, SimOptions { dirs, ..SimOptions::default() });
        let disk = world.disk();
        for dir in ["/x", "/y"] {
            disk.create_dir(dir.as_ref()).unwrap();
        }
        disk.sync_dir("/".as_ref()).unwrap();
        for name in ["/x/a", "/y/a", "/x/b", "/y/b", "/y/c", "/x/c"] {
            create(&*disk, name, b"1");
        }
        world.power_loss();
        let disk = world.disk();
        ["/x", "/y"].map(|dir| names(&*disk, dir).concat())
    });
    survivors.collect()
}

#[test]
fn a_prefix_of_each_directory_survives() {
    let seen = survivors(DirLoss::Prefix);
    let prefixes = ["", "a", "ab", "abc"];
    assert!(seen.iter().flatten().all(|left| prefixes.contains(&left.as_str())));
    assert_eq!(seen.len(), 16, "each directory for itself: {seen:?}");
}

#[test]
fn other_rules_for_directories() {
    let seen = survivors(DirLoss::Subset);
    let first: BTreeSet<_> = seen.iter().map(|[x, _]| x.as_str()).collect();
    assert_eq!(first, BTreeSet::from(["", "a", "ab", "abc", "ac", "b", "bc", "c"]));
    assert_eq!(survivors(DirLoss::LoseAll), BTreeSet::from([["", ""].map(String::from)]));
    assert_eq!(survivors(DirLoss::KeepAll), BTreeSet::from([["abc", "abc"].map(String::from)]));
}

#[test]
fn a_synced_directory_loses_nothing_and_counts_for_no_other() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions { dirs: DirLoss::LoseAll, ..SimOptions::default() });
        let disk = world.disk();
        disk.create_dir("/x".as_ref()).unwrap();
        disk.create_dir("/y".as_ref()).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        create(&*disk, "/x/a", b"1");
        create(&*disk, "/y/a", b"1");
        disk.rename("/x/a".as_ref(), "/x/b".as_ref()).unwrap();
        disk.sync_dir("/x".as_ref()).unwrap();
        create(&*disk, "/x/c", b"1");
        disk.remove_file("/x/b".as_ref()).unwrap();
        world.power_loss();
        let disk = world.disk();
        assert_eq!((names(&*disk, "/x"), names(&*disk, "/y")), (vec!["b".to_owned()], Vec::new()));
        assert_eq!(disk.read("/x/b".as_ref(), 1).unwrap(), b"1");
    }
}

#[test]
fn a_replaced_name_is_the_old_or_the_new_file() {
    for dirs in [DirLoss::Prefix, DirLoss::Subset] {
        let mut seen = BTreeSet::new();
        for seed in SEEDS {
            let world = SimWorld::new(seed, SimOptions { dirs, ..SimOptions::default() });
            let disk = world.disk();
            create(&*disk, "/name", b"old");
            disk.sync_dir("/".as_ref()).unwrap();
            create(&*disk, "/tmp", b"new");
            disk.rename("/tmp".as_ref(), "/name".as_ref()).unwrap();
            world.power_loss();
            let name = world.disk().read("/name".as_ref(), 9).unwrap();
            let tmp = names(&*world.disk(), "/").contains(&"tmp".to_owned());
            assert!(name == b"old" || name == b"new", "seed {seed}: {name:?}");
            seen.insert((name, tmp));
        }
        // Never new with the temporary name still there.
        let old = |tmp| (b"old".to_vec(), tmp);
        assert_eq!(seen, BTreeSet::from([old(false), old(true), (b"new".to_vec(), false)]));
    }
}

#[test]
fn a_file_renamed_without_a_sync_may_be_empty() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let disk = world.disk();
        create(&*disk, "/name", b"old");
        disk.sync_dir("/".as_ref()).unwrap();
        let file = disk.open("/tmp".as_ref(), OpenMode::CreateNew).unwrap();
        file.write_at(b"new", 0).unwrap();
        disk.rename("/tmp".as_ref(), "/name".as_ref()).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        world.power_loss();
        seen.insert(String::from_utf8(world.disk().read("/name".as_ref(), 9).unwrap()).unwrap());
    }
    assert_eq!(seen, BTreeSet::from(["", "\0\0\0", "new"].map(String::from)));
}

#[test]
fn a_rename_between_directories_is_atomic() {
    for dirs in [DirLoss::Prefix, DirLoss::Subset] {
        let mut seen = BTreeSet::new();
        for seed in SEEDS {
            let world = SimWorld::new(seed, SimOptions { dirs, ..SimOptions::default() });
            let disk = world.disk();
            disk.create_dir("/x".as_ref()).unwrap();
            disk.create_dir("/y".as_ref()).unwrap();
            disk.sync_dir("/".as_ref()).unwrap();
            create(&*disk, "/x/f", b"1");
            disk.sync_dir("/x".as_ref()).unwrap();
            create(&*disk, "/y/before", b"1");
            disk.rename("/x/f".as_ref(), "/y/f".as_ref()).unwrap();
            world.power_loss();
            let disk = world.disk();
            let (x, y) = (names(&*disk, "/x").concat(), names(&*disk, "/y").concat());
            assert_eq!(x.contains('f'), !y.ends_with('f') || y == "before", "seed {seed}: {x} {y}");
            seen.insert((x, y));
        }
        let kept = if dirs == DirLoss::Prefix { 3 } else { 4 };
        assert_eq!(seen.len(), kept, "{seen:?}");
    }
}

#[test]
fn syncing_one_directory_of_a_rename_settles_both() {
    for synced in ["/x", "/y"] {
        let world = SimWorld::new(1, SimOptions { dirs: DirLoss::LoseAll, ..SimOptions::default() });
        let disk = world.disk();
        disk.create_dir("/x".as_ref()).unwrap();
        disk.create_dir("/y".as_ref()).unwrap();
        disk.sync_dir("/".as_ref()).unwrap();
        create(&*disk, "/x/before", b"1");
        create(&*disk, "/x/f", b"1");
        create(&*disk, "/y/before", b"1");
        disk.rename("/x/f".as_ref(), "/y/f".as_ref()).unwrap();
        disk.sync_dir(synced.as_ref()).unwrap();
        world.power_loss();
        // What came before the rename in either directory is durable too: else no prefix would be left.
        let disk = world.disk();
        assert_eq!(
            (names(&*disk, "/x").concat(), names(&*disk, "/y").concat()),
            ("before".into(), "beforef".into())
        );
    }
}

#[test]
fn a_lost_directory_takes_its_files_along_and_a_removed_file_may_return() {
    let mut seen = BTreeSet::new();
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let disk = world.disk();
        create(&*disk, "/f", b"1");
        disk.sync_dir("/".as_ref()).unwrap();
        disk.create_dir("/x".as_ref()).unwrap();
        create(&*disk, "/x/a", b"1");
        disk.sync_dir("/x".as_ref()).unwrap();
        disk.remove_file("/f".as_ref()).unwrap();
        world.power_loss();
        let disk = world.disk();
        if let Ok(inside) = disk.read_dir("/x".as_ref()) {
            assert_eq!(inside, ["a"], "seed {seed}");
        }
        seen.insert(names(&*disk, "/").concat());
    }
    assert_eq!(seen, BTreeSet::from(["f", "fx", "x"].map(String::from)));
}

#[test]
fn a_directory_is_not_removed_before_its_files_moved_out() {
    for seed in SEEDS {
        let world = SimWorld::new(seed, SimOptions::default());
        let disk = world.disk();
        disk.create_dir("/x".as_ref()).unwrap();
        create(&*disk, "/x/f", b"1");
        disk.create_dir("/y".as_ref()).unwrap();
        ["/x", "/y", "/"].iter().for_each(|dir| disk.sync_dir(dir.as_ref()).unwrap());
        disk.rename("/x/f".as_ref(), "/y/f".as_ref()).unwrap();
        disk.remove_dir("/x".as_ref()).unwrap();
        world.power_loss();
        let disk = world.disk();
        let found = ["/x/f", "/y/f"].iter().filter(|path| disk.read(path.as_ref(), 9).is_ok()).count();
        assert_eq!(found, 1, "seed {seed}");
    }
}
