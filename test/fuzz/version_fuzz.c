/* SPDX-License-Identifier: BSD-3-Clause */
/* VERSION's payload: the parser, and the reply at a length that the input picks. */
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "belfry/vfio_user.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct vu_caps caps;
	size_t max = 4 + size % VU_VERSION_REPLY_MAX, len;
	char *reply;
	int err;

	err = vu_version_parse(data, size, &caps);
	assert(err == 0 || err == -22);
	if (err)
		return 0;
	assert(caps.major == 0 && size >= 4);
	assert(caps.has_json == (size > 4));
	reply = malloc(max);
	len = vu_version_reply(&caps, caps.iommufd, (uint32_t)size, reply, max);
	assert(len >= 4 && len <= max);
	if (len > 4) {
		json_t *root = json_loadb(reply + 4, len - 5, 0, NULL);

		assert(!reply[len - 1]);
		assert(json_is_object(json_object_get(root, "capabilities")));
		json_decref(root);
	}
	free(reply);
	/* who asked for iommufd is told, in no more than it took to ask */
	len = size > VU_VERSION_REPLY_MAX ? VU_VERSION_REPLY_MAX : size;
	reply = malloc(len);
	len = vu_version_reply(&caps, caps.iommufd, 1, reply, len);
	if (caps.iommufd)
		assert(len > 4 && strstr(reply + 4, "iommufd"));
	free(reply);
	return 0;
}
