"""The infrastructure of a shop as somebody else would have made it, by AWS's own API: a closed bucket and a load balancer behind
CloudFront with a web ACL, tasks in private subnets, a database that is encrypted and backed up, logs, alarms.

    python infrastructure.py URL NAME

makes it and prints what a configuration has to name, as JSON; then it runs each line that it is given as a statement on what was made,
and says "done"."""
import json
import sys

import boto3

url, name = sys.argv[1:]


def client(service):
    return boto3.client(service, endpoint_url=url, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test")


services = ["ec2", "s3", "cloudfront", "elbv2", "ecs", "logs", "cloudwatch", "rds", "wafv2", "lambda", "secretsmanager", "elasticache", "events", "kms", "iam"]
ec2, s3, cloudfront, elb, ecs, logs, cloudwatch, rds, waf, functions, secrets, caches, events, kms, iam = map(client, services)


def find(kind, key):
    """A thing of ours in the network, by its tag."""
    answer = getattr(ec2, f"describe_{kind}")(Filters=[{"Name": "tag:Name", "Values": [f"{name}-{key}"]}])
    return next(value for value in answer.values() if isinstance(value, list))[0]


def tags(kind, key):
    return [{"ResourceType": kind, "Tags": [{"Key": "Name", "Value": f"{name}-{key}"}]}]


def group(vpc, key):
    made = ec2.create_security_group(GroupName=f"{name}-{key}", Description=key, VpcId=vpc, TagSpecifications=tags("security-group", key))
    return made["GroupId"]


def admit(group, port, **source):
    ec2.authorize_security_group_ingress(
        GroupId=group, IpPermissions=[{"IpProtocol": "tcp", "FromPort": port, "ToPort": port, **source}]
    )


def policy(arn, plain=True):
    allow = {
        "Effect": "Allow", "Principal": {"Service": "cloudfront.amazonaws.com"}, "Action": "s3:GetObject",
        "Resource": f"arn:aws:s3:::{name}-web/*", "Condition": {"StringEquals": {"AWS:SourceArn": arn}},
    }
    deny = {
        "Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": f"arn:aws:s3:::{name}-web/*",
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    text = json.dumps({"Version": "2012-10-17", "Statement": [allow] + ([deny] if plain else [])})
    s3.put_bucket_policy(Bucket=f"{name}-web", Policy=text)


def bucket(key):
    s3.create_bucket(Bucket=f"{name}-{key}")
    switches = ["BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets"]
    s3.put_public_access_block(Bucket=f"{name}-{key}", PublicAccessBlockConfiguration=dict.fromkeys(switches, True))


def container(**changes):
    return {
        "name": "web", "image": f"registry.example/shop/api@sha256:{'0' * 64}", "essential": True,
        "environment": [{"name": "DATABASE_HOST", "value": f"{name}-db.example.rds.amazonaws.com"}, {"name": "DEBUG", "value": "0"}],
        "secrets": [{"name": "DATABASE_PASSWORD", "valueFrom": secrets.describe_secret(SecretId=name)["ARN"] + ":password::"}],
        "logConfiguration": {"logDriver": "awslogs", "options": {
            "awslogs-group": f"/shop/{name}", "awslogs-region": "us-east-1", "awslogs-stream-prefix": "web"}},
    } | changes


def register(change=lambda definition: None, **changes):
    definition = dict(
        family=name, networkMode="awsvpc", requiresCompatibilities=["FARGATE"], cpu="256", memory="512",
        executionRoleArn=f"arn:aws:iam::000000000000:role/{name}-tasks",
        taskRoleArn=f"arn:aws:iam::000000000000:role/{name}-application", containerDefinitions=[container(**changes)],
    )
    change(definition)
    return ecs.register_task_definition(**definition)["taskDefinition"]["taskDefinitionArn"]


def roll(change=lambda definition: None, **changes):
    ecs.update_service(cluster=name, service=name, taskDefinition=register(change, **changes))


def trust(key, principal):
    statement = {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}
    return {"RoleName": f"{name}-{key}", "PolicyDocument": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}


def grant(key, *statements):
    """The role's own policy: actions and the resources that they are for."""
    statements = [{"Effect": "Allow", "Action": actions, "Resource": resources} for actions, resources in statements]
    iam.put_role_policy(
        RoleName=f"{name}-{key}", PolicyName="own", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": statements}))


def role(key, service, *statements):
    made = trust(key, {"Service": service})
    iam.create_role(RoleName=made["RoleName"], AssumeRolePolicyDocument=made["PolicyDocument"])
    grant(key, *statements)


def roles():
    """What each needs, and no more."""
    secret = secrets.describe_secret(SecretId=name)["ARN"]
    role("tasks", "ecs-tasks.amazonaws.com", (["secretsmanager:GetSecretValue"], [secret]))
    iam.attach_role_policy(
        RoleName=f"{name}-tasks", PolicyArn="arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy")
    files = (["s3:GetObject", "s3:PutObject"], [f"arn:aws:s3:::{name}-files/*"])
    role("application", "ecs-tasks.amazonaws.com", files, ("secretsmanager:GetSecretValue", secret))
    role("pipeline", "codepipeline.amazonaws.com", ("codebuild:StartBuild", f"arn:aws:codebuild:us-east-1:000000000000:project/{name}"))
    role("builds", "codebuild.amazonaws.com", ("ecs:UpdateService", f"arn:aws:ecs:us-east-1:000000000000:service/{name}/*"))


def rule():
    """The load balancer's rule for the service."""
    balancer = elb.describe_load_balancers(Names=[name])["LoadBalancers"][0]["LoadBalancerArn"]
    listener = elb.describe_listeners(LoadBalancerArn=balancer)["Listeners"][0]["ListenerArn"]
    return next(one for one in elb.describe_rules(ListenerArn=listener)["Rules"] if not one["IsDefault"])


def forward(to=None):
    """Lets the rule forward to the service, or else answer itself."""
    targets = elb.describe_target_groups(Names=[name])["TargetGroups"][0]["TargetGroupArn"]
    action = {"Type": "forward", "TargetGroupArn": targets} if to is None else to
    elb.modify_rule(RuleArn=rule()["RuleArn"], Actions=[action])


def distribution():
    listed = cloudfront.list_distributions()["DistributionList"]["Items"]
    return next(one["Id"] for one in listed if one["Comment"] == name)


def edge(change):
    """Changes the distribution's configuration."""
    got = cloudfront.get_distribution_config(Id=distribution())
    config = got["DistributionConfig"]
    change(config)
    cloudfront.update_distribution(Id=distribution(), IfMatch=got["ETag"], DistributionConfig=config)


def network():
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16", TagSpecifications=tags("vpc", "vpc"))["Vpc"]["VpcId"]
    gateway = ec2.create_internet_gateway()["InternetGateway"]["InternetGatewayId"]
    ec2.attach_internet_gateway(InternetGatewayId=gateway, VpcId=vpc)
    for at, key in enumerate(["public", "private", "isolated"]):
        table = ec2.create_route_table(VpcId=vpc, TagSpecifications=tags("route-table", key))["RouteTable"]["RouteTableId"]
        for zone in "ab":
            block = f"10.7.{at * 2 + 'ab'.index(zone)}.0/24"
            subnet = ec2.create_subnet(
                VpcId=vpc, CidrBlock=block, AvailabilityZone=f"us-east-1{zone}", TagSpecifications=tags("subnet", f"{key}-{zone}"))
            ec2.associate_route_table(RouteTableId=table, SubnetId=subnet["Subnet"]["SubnetId"])
        if key == "public":
            ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", GatewayId=gateway)
        if key == "private":
            nat = ec2.create_nat_gateway(SubnetId=find("subnets", "public-a")["SubnetId"], AllocationId=ec2.allocate_address()["AllocationId"])
            ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=nat["NatGateway"]["NatGatewayId"])
    return vpc


def subnets(key):
    return [find("subnets", f"{key}-{zone}")["SubnetId"] for zone in "ab"]


def make():
    vpc = network()
    edge_group, task_group, database_group = (group(vpc, key) for key in ["edge", "tasks", "database"])
    lists = ec2.describe_managed_prefix_lists()["PrefixLists"]
    cloudfronts = [one["PrefixListId"] for one in lists if one["PrefixListName"].endswith("cloudfront.origin-facing")]
    if not cloudfronts:
        made = ec2.create_managed_prefix_list(
            PrefixListName="com.amazonaws.global.cloudfront.origin-facing", MaxEntries=1, AddressFamily="IPv4")
        cloudfronts = [made["PrefixList"]["PrefixListId"]]
    admit(edge_group, 443, PrefixListIds=[{"PrefixListId": cloudfronts[0]}])
    admit(task_group, 8000, UserIdGroupPairs=[{"GroupId": edge_group}])
    admit(database_group, 5432, UserIdGroupPairs=[{"GroupId": task_group}])

    balancer = elb.create_load_balancer(Name=name, Subnets=subnets("public"), SecurityGroups=[edge_group], Scheme="internet-facing")
    balancer = balancer["LoadBalancers"][0]
    targets = elb.create_target_group(Name=name, Protocol="HTTP", Port=8000, VpcId=vpc, TargetType="ip")
    targets = targets["TargetGroups"][0]["TargetGroupArn"]
    refuse = {"Type": "fixed-response", "FixedResponseConfig": {"StatusCode": "403"}}
    listener = elb.create_listener(
        LoadBalancerArn=balancer["LoadBalancerArn"], Protocol="HTTPS", Port=443, DefaultActions=[refuse],
        Certificates=[{"CertificateArn": "arn:aws:acm:us-east-1:000000000000:certificate/1"}])["Listeners"][0]["ListenerArn"]
    elb.create_rule(
        ListenerArn=listener, Priority=1, Actions=[{"Type": "forward", "TargetGroupArn": targets}],
        Conditions=[
            {"Field": "path-pattern", "PathPatternConfig": {"Values": ["/api/*"]}},
            {"Field": "http-header", "HttpHeaderConfig": {"HttpHeaderName": "X-Origin-Secret", "Values": ["canary-header-value"]}}])

    bucket("web")
    bucket("state")
    control = cloudfront.create_origin_access_control(OriginAccessControlConfig={
        "Name": name, "SigningProtocol": "sigv4", "SigningBehavior": "always", "OriginAccessControlOriginType": "s3"})
    acl = waf.create_web_acl(
        Name=name, Scope="CLOUDFRONT", DefaultAction={"Allow": {}}, Rules=[],
        VisibilityConfig={"SampledRequestsEnabled": True, "CloudWatchMetricsEnabled": True, "MetricName": name})["Summary"]["ARN"]
    cache = "658327ea-f89d-4fab-a63d-7e88639e58f6"
    origins = [
        {"Id": "s3", "DomainName": f"{name}-web.s3.us-east-1.amazonaws.com", "S3OriginConfig": {"OriginAccessIdentity": ""},
         "OriginAccessControlId": control["OriginAccessControl"]["Id"]},
        {"Id": "alb", "DomainName": balancer["DNSName"],
         "CustomHeaders": {"Quantity": 1, "Items": [{"HeaderName": "X-Origin-Secret", "HeaderValue": "canary-header-value"}]},
         "CustomOriginConfig": {"HTTPPort": 80, "HTTPSPort": 443, "OriginProtocolPolicy": "https-only"}}]
    served = cloudfront.create_distribution(DistributionConfig={
        "CallerReference": name, "Comment": name, "Enabled": True, "DefaultRootObject": "index.html", "WebACLId": acl,
        "Origins": {"Quantity": 2, "Items": origins},
        "DefaultCacheBehavior": {"TargetOriginId": "s3", "ViewerProtocolPolicy": "redirect-to-https", "CachePolicyId": cache},
        "CacheBehaviors": {"Quantity": 1, "Items": [
            {"PathPattern": "/api/*", "TargetOriginId": "alb", "ViewerProtocolPolicy": "https-only", "CachePolicyId": cache}]},
    })["Distribution"]
    policy(served["ARN"])

    secrets.create_secret(Name=name, SecretString='{"password": "canary-database-password"}')
    roles()
    logs.create_log_group(logGroupName=f"/shop/{name}")
    logs.put_retention_policy(logGroupName=f"/shop/{name}", retentionInDays=30)
    cloudwatch.put_metric_alarm(
        AlarmName=f"{name}-5xx", Namespace="AWS/ApplicationELB", MetricName="HTTPCode_Target_5XX_Count", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=5, ComparisonOperator="GreaterThanThreshold", ActionsEnabled=True,
        AlarmActions=["arn:aws:sns:us-east-1:000000000000:oncall"],
        Dimensions=[{"Name": "TargetGroup", "Value": targets.split(":")[-1]}])
    ecs.create_cluster(clusterName=name)
    ecs.create_service(
        cluster=name, serviceName=name, taskDefinition=register(), desiredCount=2, launchType="FARGATE",
        deploymentConfiguration={"deploymentCircuitBreaker": {"enable": True, "rollback": True}},
        loadBalancers=[{"targetGroupArn": targets, "containerName": "web", "containerPort": 8000}],
        networkConfiguration={"awsvpcConfiguration": {
            "subnets": subnets("private"), "securityGroups": [task_group], "assignPublicIp": "DISABLED"}})
    rds.create_db_subnet_group(DBSubnetGroupName=name, DBSubnetGroupDescription=name, SubnetIds=subnets("isolated"))
    rds.create_db_instance(
        DBInstanceIdentifier=f"{name}-db", Engine="postgres", DBInstanceClass="db.t4g.micro", AllocatedStorage=20, MaxAllocatedStorage=50, MasterUsername="shop",
        MasterUserPassword="canary-database-password", StorageEncrypted=True, BackupRetentionPeriod=7, PubliclyAccessible=False,
        MultiAZ=True, DeletionProtection=True, DBSubnetGroupName=name, VpcSecurityGroupIds=[database_group])
    print(json.dumps({"distribution": served["Id"], "balancer": balancer["DNSName"], "cloudfront": cloudfronts[0]}))


make()
sys.stdout.flush()
for line in sys.stdin:
    exec(line)
    print("done", flush=True)
