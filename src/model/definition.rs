//! Task definitions, as far as more than one room has to know them.

/// The fields that `DescribeTaskDefinition` answers and `RegisterTaskDefinition` does not take.
///
/// <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_TaskDefinition.html>
pub const ANSWERED_ONLY: [&str; 9] = [
    "taskDefinitionArn",
    "revision",
    "status",
    "requiresAttributes",
    "compatibilities",
    "registeredAt",
    "registeredBy",
    "deregisteredAt",
    "deleteRequestedAt",
];
