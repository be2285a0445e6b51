from django.db import migrations

FIRST_STOCK = [("Mooring rope", 4900), ("Storm lantern", 7250), ("Ship's biscuit", 350)]


def add(apps, schema_editor):
    item = apps.get_model("items", "Item")
    item.objects.bulk_create(item(name=name, price_cents=price) for name, price in FIRST_STOCK)


def remove(apps, schema_editor):
    apps.get_model("items", "Item").objects.filter(name__in=[name for name, _ in FIRST_STOCK]).delete()


class Migration(migrations.Migration):
    dependencies = [("items", "0001_initial")]
    operations = [migrations.RunPython(add, remove)]
