from django.http import HttpResponse


class HealthMiddleware:
    """Answers before anything asks for the Host header: a load balancer's probe carries the task's address there.

    It says that this process serves, not that the database does: restarting a task cures no database.
    """

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if request.path == "/healthz":
            return HttpResponse("ok\n", content_type="text/plain")
        return self.get_response(request)
