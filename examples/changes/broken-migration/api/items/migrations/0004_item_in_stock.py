from django.db import migrations, models


class Migration(migrations.Migration):
    """Fails on real data: the rows that are there have a stock of 0."""

    dependencies = [("items", "0003_item_stock")]
    operations = [
        migrations.AddConstraint(
            model_name="item",
            constraint=models.CheckConstraint(condition=models.Q(stock__gt=0), name="item_in_stock"),
        ),
    ]
