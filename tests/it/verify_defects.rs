//! Each defect of the infrastructure turns the check that is about it.

use crate::verify::Estate;

/// A check, its verdict, what is done to the infrastructure, how that is undone, and what is said.
type Defect = (&'static str, &'static str, &'static str, &'static str, &'static str);

const DEFECTS: &[Defect] = &[
    (
        "bucket-tls",
        "warn",
        "policy(cloudfront.get_distribution(Id=distribution())['Distribution']['ARN'], plain=False)",
        "policy(cloudfront.get_distribution(Id=distribution())['Distribution']['ARN'])",
        "without TLS",
    ),
    (
        "bucket-origin-access",
        "fail",
        "policy('arn:aws:cloudfront::000000000000:distribution/EOTHER')",
        "policy(cloudfront.get_distribution(Id=distribution())['Distribution']['ARN'])",
        "names another distribution",
    ),
    (
        "viewer-tls",
        "fail",
        "edge(lambda config: config['DefaultCacheBehavior'].update(ViewerProtocolPolicy='allow-all'))",
        "edge(lambda config: config['DefaultCacheBehavior'].update(ViewerProtocolPolicy='redirect-to-https'))",
        "without TLS",
    ),
    (
        "load-balancer-closed",
        "fail",
        "admit(find('security_groups', 'edge')['GroupId'], 80, IpRanges=[{'CidrIp': '0.0.0.0/0'}])",
        "ec2.revoke_security_group_ingress(GroupId=find('security_groups', 'edge')['GroupId'], IpPermissions=[{'IpProtocol': 'tcp', \
             'FromPort': 80, 'ToPort': 80, 'IpRanges': [{'CidrIp': '0.0.0.0/0'}]}])",
        "anybody reaches",
    ),
    (
        "load-balancer-header",
        "fail",
        "edge(lambda config: config['Origins']['Items'][1].update(CustomHeaders={'Quantity': 0}))",
        "edge(lambda config: config['Origins']['Items'][1].update(CustomHeaders={'Quantity': 1, 'Items': [{'HeaderName': \
             'X-Origin-Secret', 'HeaderValue': 'canary-header-value'}]}))",
        "does not add",
    ),
    (
        "origin-tls",
        "warn",
        "edge(lambda config: config['Origins']['Items'][1]['CustomOriginConfig'].update(OriginProtocolPolicy='http-only'))",
        "edge(lambda config: config['Origins']['Items'][1]['CustomOriginConfig'].update(OriginProtocolPolicy='https-only'))",
        "without TLS",
    ),
    ("waf", "warn", "edge(lambda config: config.update(WebACLId=''))", "", "no web ACL"),
    (
        "tasks-private",
        "warn",
        "ecs.update_service(cluster=name, service=name, networkConfiguration={'awsvpcConfiguration': {'subnets': subnets('public'), \
             'securityGroups': [find('security_groups', 'tasks')['GroupId']], 'assignPublicIp': 'ENABLED'}})",
        "ecs.update_service(cluster=name, service=name, networkConfiguration={'awsvpcConfiguration': {'subnets': subnets('private'), \
             'securityGroups': [find('security_groups', 'tasks')['GroupId']], 'assignPublicIp': 'DISABLED'}})",
        "let nobody in from the internet",
    ),
    (
        "tasks-egress",
        "warn",
        "ecs.update_service(cluster=name, service=name, networkConfiguration={'awsvpcConfiguration': {'subnets': subnets('isolated'), \
             'securityGroups': [find('security_groups', 'tasks')['GroupId']], 'assignPublicIp': 'DISABLED'}})",
        "ecs.update_service(cluster=name, service=name, networkConfiguration={'awsvpcConfiguration': {'subnets': subnets('private'), \
             'securityGroups': [find('security_groups', 'tasks')['GroupId']], 'assignPublicIp': 'DISABLED'}})",
        "no image can be pulled",
    ),
    (
        "circuit-breaker",
        "warn",
        "ecs.update_service(cluster=name, service=name, deploymentConfiguration={'deploymentCircuitBreaker': {'enable': False, \
             'rollback': False}})",
        "ecs.update_service(cluster=name, service=name, deploymentConfiguration={'deploymentCircuitBreaker': {'enable': True, \
             'rollback': True}})",
        "tried for ever",
    ),
    (
        "task-count",
        "warn",
        "ecs.update_service(cluster=name, service=name, desiredCount=1)",
        "ecs.update_service(cluster=name, service=name, desiredCount=2)",
        "1 tasks",
    ),
    (
        "secrets-by-reference",
        "fail",
        "roll(environment=[{'name': 'SECRET_KEY', 'value': 'canary-django-key'}, {'name': 'CACHE', 'value': 'redis://:canary-pw@c/0'}, {'name': 'DATABASE_HOST', 'value': f'{name}-db.example.rds.amazonaws.com'}])",
        "roll()",
        "`CACHE (an address with a password)`, `SECRET_KEY (secret by its name)`",
    ),
    (
        "logs-kept",
        "warn",
        "logs.delete_retention_policy(logGroupName=f'/shop/{name}')",
        "logs.put_retention_policy(logGroupName=f'/shop/{name}', retentionInDays=30)",
        "for ever",
    ),
    (
        "logs-kept",
        "fail",
        "logs.delete_log_group(logGroupName=f'/shop/{name}')",
        "logs.create_log_group(logGroupName=f'/shop/{name}')",
        "cannot start",
    ),
    (
        "alarms",
        "warn",
        "cloudwatch.disable_alarm_actions(AlarmNames=[f'{name}-5xx'])",
        "cloudwatch.enable_alarm_actions(AlarmNames=[f'{name}-5xx'])",
        "tell nobody",
    ),
    ("alarms", "warn", "cloudwatch.delete_alarms(AlarmNames=[f'{name}-5xx'])", "", "no alarm watches"),
    (
        "database-backed-up",
        "fail",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', BackupRetentionPeriod=0, ApplyImmediately=True)",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', BackupRetentionPeriod=7, ApplyImmediately=True)",
        "no backups",
    ),
    (
        "database-closed",
        "warn",
        "admit(find('security_groups', 'database')['GroupId'], 5432, IpRanges=[{'CidrIp': '192.0.2.7/32'}])",
        "ec2.revoke_security_group_ingress(GroupId=find('security_groups', 'database')['GroupId'], IpPermissions=[{'IpProtocol': 'tcp', \
             'FromPort': 5432, 'ToPort': 5432, 'IpRanges': [{'CidrIp': '192.0.2.7/32'}]}])",
        "192.0.2.7/32",
    ),
    (
        "site-behind-cdn",
        "fail",
        "edge(lambda config: config.update(Enabled=False))",
        "edge(lambda config: config.update(Enabled=True))",
        "is turned off",
    ),
    (
        "api-behind-cdn",
        "warn",
        "edge(lambda config: config['CacheBehaviors']['Items'][0].update(TargetOriginId='s3'))",
        "edge(lambda config: config['CacheBehaviors']['Items'][0].update(TargetOriginId='alb'))",
        "sends nothing to a load balancer",
    ),
    (
        "log-prefix",
        "warn",
        "roll(logConfiguration={'logDriver': 'awslogs', 'options': {'awslogs-group': f'/shop/{name}', 'awslogs-region': 'us-east-1'}})",
        "roll()",
        "have no prefix",
    ),
    (
        "database-private",
        "fail",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', PubliclyAccessible=True, ApplyImmediately=True)",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', PubliclyAccessible=False, ApplyImmediately=True)",
        "its address is a public one",
    ),
    (
        "database-available",
        "warn",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', MultiAZ=False, ApplyImmediately=True)",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', MultiAZ=True, ApplyImmediately=True)",
        "one zone only",
    ),
    (
        "database-storage",
        "warn",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', MaxAllocatedStorage=20, ApplyImmediately=True)",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', MaxAllocatedStorage=50, ApplyImmediately=True)",
        "20 GB that do not grow",
    ),
    (
        "secrets-kept",
        "fail",
        "secrets.delete_secret(SecretId=name)",
        "secrets.restore_secret(SecretId=name)",
        "about to be deleted: no task starts",
    ),
    (
        "database-protected",
        "warn",
        "rds.modify_db_instance(DBInstanceIdentifier=f'{name}-db', DeletionProtection=False, ApplyImmediately=True)",
        "",
        "one call deletes it",
    ),
    ("execution-role", "fail", "roll(lambda definition: definition.pop('executionRoleArn'))", "roll()", "no execution role may read them"),
    (
        "task-size",
        "warn",
        "roll(lambda definition: definition.update(requiresCompatibilities=['EC2']) or [definition.pop(key) for key in ['cpu', 'memory']])",
        "roll()",
        "no memory is said",
    ),
    ("load-balancer", "fail", "forward(to={'Type': 'fixed-response', 'FixedResponseConfig': {'StatusCode': '503'}})", "forward()", ""),
    (
        "load-balancer-subnets",
        "fail",
        "elb.set_subnets(LoadBalancerArn=elb.describe_load_balancers(Names=[name])['LoadBalancers'][0]['LoadBalancerArn'], \
             Subnets=subnets('private'))",
        "",
        "none of its subnets has a way there",
    ),
    (
        "load-balancer-subnets",
        "warn",
        "elb.set_subnets(LoadBalancerArn=elb.describe_load_balancers(Names=[name])['LoadBalancers'][0]['LoadBalancerArn'], \
             Subnets=subnets('public')[:1])",
        "elb.set_subnets(LoadBalancerArn=elb.describe_load_balancers(Names=[name])['LoadBalancers'][0]['LoadBalancerArn'], \
             Subnets=subnets('public'))",
        "in one zone only",
    ),
    (
        "logs-kept",
        "warn",
        "roll(lambda definition: definition['containerDefinitions'][0].pop('logConfiguration'))",
        "roll()",
        "logs nowhere",
    ),
    (
        "logs-kept",
        "not_seen",
        "roll(logConfiguration={'logDriver': 'awsfirelens', 'options': {'Name': 'opentelemetry'}})",
        "roll()",
        "logs by `awsfirelens`",
    ),
    (
        "secrets-keys",
        "fail",
        "roll(secrets=[{'name': 'DATABASE_HOST', 'valueFrom': 'arn:aws:secretsmanager:us-east-1:000000000000:secret:rds!db-1-abcdef:host::'}])",
        "roll()",
        "`host` are asked of a secret that RDS manages",
    ),
    (
        "behaviour-order",
        "warn",
        "edge(lambda config: config['CacheBehaviors'].update(Quantity=2, Items=config['CacheBehaviors']['Items'] + \
             [dict(config['CacheBehaviors']['Items'][0], PathPattern='/api/docs/*', TargetOriginId='s3')]))",
        "edge(lambda config: config['CacheBehaviors'].update(Quantity=1, Items=config['CacheBehaviors']['Items'][:1]))",
        "`/api/docs/*` is never reached: `/api/*` stands before it",
    ),
    (
        "database-closed",
        "warn",
        "ec2.revoke_security_group_ingress(GroupId=find('security_groups', 'database')['GroupId'], IpPermissions=[{'IpProtocol': 'tcp', \
             'FromPort': 5432, 'ToPort': 5432, 'UserIdGroupPairs': [{'GroupId': find('security_groups', 'tasks')['GroupId']}]}]) and \
             admit(find('security_groups', 'database')['GroupId'], 5432, UserIdGroupPairs=[{'GroupId': find('security_groups', 'edge')['GroupId']}])",
        "admit(find('security_groups', 'database')['GroupId'], 5432, UserIdGroupPairs=[{'GroupId': find('security_groups', 'tasks')['GroupId']}])",
        "none of the services' own",
    ),
    (
        "role-grants",
        "fail",
        "iam.attach_role_policy(RoleName=f'{name}-application', PolicyArn='arn:aws:iam::aws:policy/AdministratorAccess')",
        "iam.detach_role_policy(RoleName=f'{name}-application', PolicyArn='arn:aws:iam::aws:policy/AdministratorAccess')",
        "it may do everything in the account: `*` by the policy `AdministratorAccess`",
    ),
    (
        "role-grants",
        "fail",
        "grant('application', (['iam:PassRole', 'ecs:RunTask'], '*'))",
        "",
        "it may give itself any right: `iam:PassRole` by the policy `own`",
    ),
    ("role-grants", "warn", "grant('application', ('s3:*', '*'))", "", "`s3:*` by the policy `own`"),
    (
        "role-grants",
        "warn",
        "grant('application', ('secretsmanager:GetSecretValue', 'arn:aws:secretsmanager:us-east-1:000000000000:secret:*'))",
        "grant('application', ('s3:GetObject', f'arn:aws:s3:::{name}-files/*'))",
        "it reaches what belongs to others",
    ),
    (
        "role-grants",
        "warn",
        "roll(lambda definition: definition.update(taskRoleArn=definition['executionRoleArn']))",
        "roll()",
        "act as the role that starts them",
    ),
    (
        "role-trust",
        "fail",
        "iam.update_assume_role_policy(**trust('application', {'AWS': '*'}))",
        "",
        "anybody in any account may act as it",
    ),
    (
        "role-trust",
        "warn",
        "iam.update_assume_role_policy(**trust('application', {'AWS': 'arn:aws:iam::333333333333:root'}))",
        "iam.update_assume_role_policy(**trust('application', {'Service': 'ecs-tasks.amazonaws.com'}))",
        "`arn:aws:iam::333333333333:root`",
    ),
    (
        "role-secrets",
        "warn",
        "grant('tasks', ('secretsmanager:GetSecretValue', 'arn:aws:secretsmanager:us-east-1:000000000000:secret:other-*'))",
        "grant('tasks', ('secretsmanager:GetSecretValue', secrets.describe_secret(SecretId=name)['ARN']))",
        "no policy of it lets it read `secret:verify-bad-",
    ),
    (
        "secrets-rotation",
        "warn",
        "secrets.rotate_secret(SecretId=name, RotationRules={'AutomaticallyAfterDays': 7}, RotateImmediately=False, \
             RotationLambdaARN='arn:aws:lambda:us-east-1:000000000000:function:rotate')",
        "",
        "change by themselves",
    ),
];

#[tokio::test]
async fn each_defect_turns_its_own_check() {
    let estate = Estate::new("verify-bad");
    let mut wrong = Vec::new();
    for (check, verdict, make, unmake, seen) in DEFECTS {
        estate.change(make);
        let exit = if *verdict == "fail" { 11 } else { 0 };
        let (got, said) = estate.check(check, exit);
        if got != *verdict || !said.contains(seen) {
            wrong.push(format!("{check}: {got}: {said}"));
        }
        if !unmake.is_empty() {
            estate.change(unmake);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(estate.check("secrets-by-reference", 0).0, "ok");
    let everything = estate.verify(&["--strict"]).expect(11);
    assert!(!everything.stdout.contains("canary") && !everything.stderr.contains("canary"), "{}", everything.stdout);
}
