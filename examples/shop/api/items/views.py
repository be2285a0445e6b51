from django.db import connection
from django.http import JsonResponse
from django.views.decorators.http import require_GET
from shop.version import VERSION

from .models import Item


@require_GET
def items(request):
    # The table as the database has it, whatever this code's model says.
    with connection.cursor() as cursor:
        table = connection.introspection.get_table_description(cursor, Item._meta.db_table)
    return JsonResponse({
        "version": VERSION,
        "columns": [column.name for column in table],
        "items": list(Item.objects.values()),
    })
