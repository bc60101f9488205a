"""All that gradsift uses of kfp's internals; as of kfp and kfp-server-api 2.17."""

import kfp
from kfp_server_api import ApiException, Configuration, V2beta1GetHealthzResponse
from kfp_server_api.rest import RESTClientObject


class QuietClient(kfp.Client):
    """A client that sends no request when it is made, and sends each request once."""

    def __init__(self, *arguments: object, **options: object) -> None:
        """Open the client, and let its connections repeat nothing: urllib3 tries three times by default.

        kfp makes the configuration and the connections at once, and no argument reaches the number of tries.
        """
        super().__init__(*arguments, **options)
        self.configuration.retries = False
        self.runs.api_client.rest_client = RESTClientObject(self.configuration)

    def get_kfp_healthz(self, sleep_duration: int = 5) -> V2beta1GetHealthzResponse:
        """Answer what `kfp.Client` asks when it is made, to find the user's namespace: that there is one user.

        kfp would ask five times, and no argument stops it.
        """
        return V2beta1GetHealthzResponse(multi_user=False)

    @property
    def configuration(self) -> Configuration:
        """How the API is reached; all services share one `ApiClient`, which `kfp.Client` keeps private."""
        return self.runs.api_client.configuration

    @property
    def ui_address(self) -> str:
        """Address of the user interface: kfp prints links to it and has no public way to get it."""
        return str(self._get_url_prefix())


def hidden_failure(error: Exception) -> ApiException | None:
    """Return the failed request behind an error of `kfp_server_api`, None where there is none.

    Args:
        error: what was raised instead, as `kfp_server_api` decodes the body of each failure, whether it is text or
            not, and missing where TLS failed.
    """
    cause = error.__context__
    return cause if isinstance(cause, ApiException) else None
