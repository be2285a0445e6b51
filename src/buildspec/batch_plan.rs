//! Which builds a batch is made of.

use std::collections::BTreeMap;

use super::spec::{Batch, Builds, Matrix};

/// One build of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Planned {
    pub(super) identifier: String,
    pub(super) buildspec: Option<String>,
    pub(super) depend_on: Vec<String>,
    pub(super) ignore_failure: bool,
    pub(super) image: Option<String>,
    pub(super) privileged: bool,
    pub(super) variables: Vec<(String, String)>,
    pub(super) shard: Option<(u32, u32)>,
}

/// The builds, in the order of the file; `known` are the variables that images and buildspecs may be named by.
pub(super) fn plan(batch: &Batch, known: &BTreeMap<&str, &str>) -> Vec<Planned> {
    let mut builds = match &batch.builds {
        Builds::Tasks(tasks) => tasks
            .iter()
            .map(|task| Planned {
                identifier: task.identifier.clone(),
                buildspec: task.buildspec.clone(),
                depend_on: task.depend_on.clone(),
                ignore_failure: task.ignore_failure,
                image: task.image.clone(),
                privileged: task.privileged_mode,
                variables: task.variables.clone(),
                shard: None,
            })
            .collect(),
        Builds::Matrix(matrix) => product(matrix),
        Builds::Fanout { parallelism, ignore_failure } => (1..=*parallelism)
            .map(|shard| Planned {
                identifier: format!("shard_{shard}"),
                ignore_failure: *ignore_failure,
                shard: Some((shard, *parallelism)),
                ..Planned::default()
            })
            .collect(),
    };
    for build in &mut builds {
        build.image = build.image.take().map(|image| public(&expand(&image, known)));
        build.buildspec = build.buildspec.take().map(|file| expand(&file, known));
    }
    builds
}

/// AWS's curated images are named `aws/codebuild/…` in a project; everybody can pull them from its public registry.
///
/// <https://docs.aws.amazon.com/codebuild/latest/userguide/build-env-ref-available.html>
fn public(image: &str) -> String {
    image.strip_prefix("aws/codebuild/").map_or_else(|| image.to_owned(), |name| format!("public.ecr.aws/codebuild/{name}"))
}

/// Every combination of the lists' values, the last list turning fastest.
fn product(matrix: &Matrix) -> Vec<Planned> {
    let first = Planned {
        ignore_failure: matrix.ignore_failure,
        privileged: matrix.privileged_mode,
        variables: matrix.variables.clone(),
        ..Planned::default()
    };
    let mut builds = vec![first];
    let mut turn = |values: &[String], put: &dyn Fn(&mut Planned, &str)| {
        if values.is_empty() {
            return;
        }
        let with = |build: &Planned, value: &String| {
            let mut build = build.clone();
            put(&mut build, value);
            build.identifier =
                [build.identifier.as_str(), value].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join("_");
            build
        };
        builds = builds.iter().flat_map(|build| values.iter().map(move |value| with(build, value))).collect();
    };
    turn(&matrix.buildspecs, &|build, value| build.buildspec = Some(value.to_owned()));
    turn(&matrix.compute_types, &|_, _| {});
    turn(&matrix.images, &|build, value| build.image = Some(value.to_owned()));
    for (name, values) in &matrix.dynamic {
        turn(values, &|build, value| build.variables.push((name.clone(), value.to_owned())));
    }
    let mut taken: BTreeMap<String, u32> = BTreeMap::new();
    for build in &mut builds {
        let plain: String = build.identifier.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
        let plain = if plain.is_empty() { "build".to_owned() } else { plain };
        let count = taken.entry(plain.clone()).and_modify(|count| *count += 1).or_insert(1);
        build.identifier = if *count == 1 { plain } else { format!("{plain}_{count}") };
    }
    builds
}

/// `$NAME` and `${NAME}` by what is known; what is not stays as it is.
fn expand(text: &str, known: &BTreeMap<&str, &str>) -> String {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded += &rest[..at];
        let after = &rest[at + 1..];
        let braced = after.strip_prefix('{');
        let name_from = braced.unwrap_or(after);
        let length = name_from.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(name_from.len());
        let name = &name_from[..length];
        let tail = &name_from[length..];
        let tail = if braced.is_some() { tail.strip_prefix('}') } else { Some(tail) };
        if let (Some(value), Some(tail)) = (known.get(name), tail) {
            expanded += value;
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(values: &[&str]) -> Vec<String> {
        values.iter().map(|&value| value.to_owned()).collect()
    }

    #[test]
    fn a_matrix_is_every_combination_with_a_name_of_its_own() {
        let matrix = Matrix {
            images: texts(&["aws/codebuild/standard:7.0", "local"]),
            dynamic: vec![("A".into(), texts(&["x y", "x-y"])), ("B".into(), texts(&["1", "2"]))],
            variables: vec![("S".into(), "s".into())],
            ..Matrix::default()
        };
        let builds = plan(&Batch { fast_fail: false, builds: Builds::Matrix(matrix) }, &BTreeMap::new());
        assert_eq!(builds.len(), 8);
        let named: Vec<&str> = builds.iter().map(|build| build.identifier.as_str()).collect();
        assert_eq!(named[4..], ["local_x_y_1", "local_x_y_2", "local_x_y_1_2", "local_x_y_2_2"]);
        assert_eq!(builds[0].image.as_deref(), Some("public.ecr.aws/codebuild/standard:7.0"));
        assert_eq!(builds[7].variables, [("S", "s"), ("A", "x-y"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn variables_of_the_project_name_images() {
        let known = BTreeMap::from([("IMAGE", "i:1"), ("V", "2")]);
        for (text, expanded) in [("$IMAGE", "i:1"), ("a${V}b$V", "a2b2"), ("$OTHER-$", "$OTHER-$"), ("${V", "${V")] {
            assert_eq!(expand(text, &known), expanded);
        }
    }

    #[test]
    fn a_fan_out_has_as_many_builds_as_it_says() {
        let builds = plan(&Batch { fast_fail: false, builds: Builds::Fanout { parallelism: 3, ignore_failure: true } }, &BTreeMap::new());
        let shards: Vec<_> = builds.iter().map(|build| (build.identifier.as_str(), build.shard.unwrap())).collect();
        assert_eq!(shards, [("shard_1", (1, 3)), ("shard_2", (2, 3)), ("shard_3", (3, 3))]);
    }
}
