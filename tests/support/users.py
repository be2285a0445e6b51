"""Makes users of the local cloud that may do what policies say, and prints their keys: `python users.py ENDPOINT NAME < policy.json`.

On standard input is a policy, or a list of policies with what is left out of each: [{"policy": …, "without": [SID, ACTION]}, …].

# What the cloud evaluates

ministack 1.5.33 with AUTH=true (its core/iam_evaluator.py and core/iam_actions.py) holds every request that is signed against the policies
of the user whose key has signed it: always the action, and of resource and conditions this much:

* S3, CloudFront, Lambda, EventBridge: the ARN, as AWS does. A copy needs s3:GetObject and s3:PutObject, a HEAD s3:GetObject.
* ECR: the repository that `repositoryName` names; `*` for a list of names (DescribeRepositories).
* ECS: the cluster's ARN for every request that names a cluster, whatever it is about; `*` for one that names none.
* CloudWatch Logs: the group's ARN, never the stream's. Elastic Load Balancing, CloudWatch: `*`. RDS: the database's ARN, else `*`.
* `ecs:cluster`, `ecs:CreateAction` and `iam:PassedToService` are never in a request, so that a condition on them never holds.
* Not at all: iam:PassRole, ecs:TagResource and rds:AddTagsToResource, which come along with other actions; the registry itself (/v2/), where
  the actions of a push are; Application Auto Scaling and CodePipeline, which it does not have.

So a policy is said in those words here. What is lost with that is held against AWS's own reference, in tests/it/policy_reference.rs.
"""

import json
import sys

import boto3

# Those of ECS and RDS that name no cluster and no database.
EVERYWHERE = {
    "ecr:DescribeRepositories",
    "ecs:DescribeClusters",
    "ecs:DescribeServiceDeployments",
    "ecs:RegisterTaskDefinition",
    "ecs:StopServiceDeployment",
    "rds:DescribeDBClusterSnapshots",
    "rds:DescribeDBSnapshots",
}

# Those that AWS holds against `alarm:*` and `db:*` where nothing is named.
LISTS = {"cloudwatch:DescribeAlarms", "rds:DescribeDBInstances"}


def asked_for(action, arn):
    """The resource that the emulator asks for where AWS asks for `arn`."""
    if action in EVERYWHERE or arn == "*" or (action in LISTS and arn.endswith(":*")):
        return "*"
    if action.startswith("ecs:"):
        # arn:aws:ecs:REGION:ACCOUNT:service/CLUSTER/NAME
        place, _, name = arn.partition("/")
        return place.rsplit(":", 1)[0] + ":cluster/" + name.split("/")[0]
    if action.startswith("logs:"):
        return arn.split(":log-stream:")[0]
    return arn


def evaluated(policy, without):
    """The policy in the emulator's words, a statement for each action, without one of them."""
    statements = []
    for statement in policy["Statement"]:
        clusters = statement.get("Condition", {}).get("ArnEquals", {}).get("ecs:cluster")
        for action in statement["Action"]:
            if without != [statement["Sid"], action]:
                resources = sorted({asked_for(action, arn) for arn in clusters or statement["Resource"]})
                statements.append({"Effect": "Allow", "Action": action, "Resource": resources})
    return {"Version": policy["Version"], "Statement": statements}


def main():
    endpoint, prefix = sys.argv[1:]
    given = json.load(sys.stdin)
    given = given if isinstance(given, list) else [{"policy": given, "without": None}]
    root = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    iam = boto3.client("iam", endpoint_url=endpoint, region_name="us-east-1", **root)
    for number, one in enumerate(given):
        name = f"{prefix}-{number}"
        iam.create_user(UserName=name)
        document = json.dumps(evaluated(one["policy"], one["without"]))
        iam.put_user_policy(UserName=name, PolicyName="windlass", PolicyDocument=document)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        print(key["AccessKeyId"], key["SecretAccessKey"])


main()
