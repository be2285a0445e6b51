//! A Django application as people write them, without a line for windlass; and the packages that it takes, installed once.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use crate::support::scene::Scene;

const SETTINGS: &str = "\
import os
from urllib.parse import urlparse, unquote
def database(name):
    url = urlparse(os.environ[name])
    return {'ENGINE': 'django.db.backends.postgresql', 'NAME': url.path[1:], 'USER': url.username, 'PASSWORD': unquote(url.password or ''), 'HOST': url.hostname, 'PORT': url.port}
SECRET_KEY = 'x'
INSTALLED_APPS = ['django.contrib.auth', 'django.contrib.contenttypes', 'items']
DATABASES = {'default': database('DATABASE_URL')}
if 'AUDIT_URL' in os.environ:
    DATABASES['audit'] = database('AUDIT_URL')
DEFAULT_AUTO_FIELD = 'django.db.models.BigAutoField'
";
const MANAGE: &str = "\
import os, sys
os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'harbor.settings')
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
";
const FIRST: &str = "\
from django.db import migrations, models
class Migration(migrations.Migration):
    initial = True
    operations = [migrations.CreateModel(name='Item', fields=[('id', models.BigAutoField(primary_key=True)), ('name', models.TextField())])]
";
const MODEL: &str = "from django.db import models\nclass Item(models.Model):\n    name = models.TextField()\n";

/// Django of a version (`4.2`, `5.2`) and its driver for PostgreSQL, unpacked: what a function's zip holds beside the application.
pub(crate) fn packages(version: &str) -> PathBuf {
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("django-{version}"));
    if !folder.join("done").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--upgrade", "--target"]).arg(&folder);
        assert!(pip.args([&format!("django~={version}.0"), "psycopg[binary]"]).status().unwrap().success());
        std::fs::write(folder.join("done"), "").unwrap();
    }
    folder
}

/// Writes the application into the scene's directory `at`, with one migration of its own: with those of Django's own applications 15.
pub(crate) fn write(scene: &Scene, at: &str) {
    for (path, text) in [
        ("manage.py", MANAGE),
        ("harbor/__init__.py", ""),
        ("harbor/settings.py", SETTINGS),
        ("items/__init__.py", ""),
        ("items/models.py", MODEL),
        ("items/migrations/__init__.py", ""),
        ("items/migrations/0001_initial.py", FIRST),
    ] {
        scene.write(&format!("{at}/{path}"), text);
    }
}

/// Adds a migration after another one, of these operations.
pub(crate) fn migrate(scene: &Scene, at: &str, name: &str, after: &str, operations: &str) {
    let text = format!(
        "import time\nfrom django.db import migrations, models\nclass Migration(migrations.Migration):\n    dependencies = [('items', '{after}')]\n    operations = [{operations}]\n"
    );
    scene.write(&format!("{at}/items/migrations/{name}.py"), text);
}
