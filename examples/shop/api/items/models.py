from django.db import models


class Item(models.Model):
    name = models.CharField(max_length=80, unique=True)
    price_cents = models.PositiveIntegerField()

    class Meta:
        ordering = ["id"]
