from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=80, unique=True)
    price_cents = models.PositiveIntegerField()
    # The default lives in the database, so that code which does not know the column yet can go on inserting.
    stock = models.IntegerField(db_default=0)

    class Meta:
        ordering = ["id"]
        constraints = [models.CheckConstraint(condition=models.Q(stock__gt=0), name="item_in_stock")]
