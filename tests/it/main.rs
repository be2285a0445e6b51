//! The real binary against a local cloud: what it does, what it says, and with which exit code it ends.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod batch_kills;
#[cfg(test)]
mod buildspec;
#[cfg(test)]
mod buildspec_batch;
#[cfg(test)]
mod buildspec_cases;
#[cfg(test)]
mod buildspec_container;
#[cfg(test)]
mod buildspec_lint;
#[cfg(test)]
mod buildspec_state;
#[cfg(test)]
mod ci;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod cut_off;
#[cfg(test)]
mod django;
#[cfg(test)]
mod docker_image;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod engine;
#[cfg(test)]
mod expiry;
#[cfg(test)]
mod from_image;
#[cfg(test)]
mod images;
#[cfg(test)]
mod images_engine;
#[cfg(test)]
mod images_faults;
#[cfg(test)]
mod images_made;
#[cfg(test)]
mod images_registry;
#[cfg(test)]
mod init;
#[cfg(test)]
mod init_engine;
#[cfg(test)]
mod init_layouts;
#[cfg(test)]
mod interrupts;
#[cfg(test)]
mod least_privilege;
#[cfg(test)]
mod lock;
#[cfg(test)]
mod migration;
#[cfg(test)]
mod migration_engine;
#[cfg(test)]
mod migration_failures;
#[cfg(test)]
mod migration_local;
#[cfg(test)]
mod migration_stop;
#[cfg(test)]
mod migration_task;
#[cfg(test)]
mod migration_zip;
#[cfg(test)]
mod orders;
#[cfg(test)]
mod outputs;
#[cfg(test)]
mod pipeline;
#[cfg(test)]
mod policy;
#[cfg(test)]
mod policy_reference;
#[cfg(test)]
mod preflight;
#[cfg(test)]
mod promote;
#[cfg(test)]
mod query;
#[cfg(test)]
mod release;
#[cfg(test)]
mod report_page;
#[cfg(test)]
mod rollback;
#[cfg(test)]
mod rollouts;
#[cfg(test)]
mod rollouts_engine;
#[cfg(test)]
mod rollouts_many;
#[cfg(test)]
mod rollouts_strange;
#[cfg(test)]
mod saved_plan;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod secrets;
#[cfg(test)]
mod shop;
#[cfg(test)]
mod site;
#[cfg(test)]
mod site_build;
#[cfg(test)]
mod site_faults;
#[cfg(test)]
mod site_forms;
#[cfg(test)]
mod smart360;
#[cfg(test)]
mod smart360_failed;
#[cfg(test)]
mod stages;
#[cfg(test)]
mod state;
#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;
#[cfg(test)]
mod throttled;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod verify_data;
#[cfg(test)]
mod verify_defects;

/// A file that nobody declares is compiled by nobody, and its tests pass by not running.
#[test]
fn every_file_here_is_declared() {
    let declared = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let is_module = path.extension().is_some_and(|extension| extension == "rs") && name != "main";
        assert!(!is_module || declared.contains(&format!("\nmod {name};\n")), "`mod {name};` is missing in tests/it/main.rs");
    }
}
