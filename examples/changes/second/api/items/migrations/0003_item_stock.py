from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("items", "0002_first_stock")]
    operations = [
        migrations.AddField(model_name="item", name="stock", field=models.IntegerField(db_default=0)),
    ]
