/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * VERSION's payload: two numbers and a JSON text. Not for when it may come.
 */
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

/* An optional non-negative integer. */
static int
get_number(const json_t *caps, const char *key, uint64_t *out)
{
	const json_t *v = json_object_get(caps, key);

	if (!v)
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 0)
		return -EINVAL;
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

/* An optional object with a bool "supported" in it. */
static int
get_supported(const json_t *caps, const char *key, bool *out)
{
	const json_t *v = json_object_get(caps, key), *yes;

	if (!v)
		return 0;
	yes = json_object_get(v, "supported"); /* NULL of a non-object */
	if (!json_is_object(v) || (yes && !json_is_boolean(yes)))
		return -EINVAL;
	*out = json_is_true(yes);
	return 0;
}

static int
parse_caps(const json_t *caps, struct vu_caps *out)
{
	const json_t *multi = json_object_get(caps, "write_multiple");
	uint64_t fds = VU_DEFAULT_MSG_FDS, pgsizes = 0, maps = 0;

	if (!json_is_object(caps) || (multi && !json_is_boolean(multi)))
		return -EINVAL;
	if (get_number(caps, "max_msg_fds", &fds) ||
	    get_number(caps, "max_data_xfer_size", &out->max_data_xfer_size) ||
	    get_number(caps, "max_dma_maps", &maps) ||
	    get_number(caps, "pgsizes", &pgsizes) ||
	    get_supported(caps, "twin_socket", &out->twin_socket) ||
	    get_supported(caps, "iommufd", &out->iommufd))
		return -EINVAL;
	out->max_msg_fds = (uint32_t)MIN(fds, (uint64_t)UINT32_MAX);
	out->write_multiple = json_is_true(multi);
	return 0;
}

/* @json has @len bytes; those from the first NUL on must all be NUL. */
static int
parse_json(const char *json, size_t len, struct vu_caps *out)
{
	size_t text = strnlen(json, len);
	const json_t *caps;
	json_t *root;
	int err = 0;

	if (text == len)
		return -EINVAL;
	for (size_t i = text; i < len; i++)
		if (json[i])
			return -EINVAL;
	if (!text)
		return 0;
	root = json_loadb(json, text, 0, NULL);
	if (!json_is_object(root))
		err = -EINVAL;
	caps = json_object_get(root, "capabilities");
	if (!err && caps)
		err = parse_caps(caps, out);
	json_decref(root);
	return err;
}

int
vu_version_parse(const void *payload, size_t len, struct vu_caps *out)
{
	struct vu_version v;

	if (len < sizeof(v))
		return -EINVAL;
	memcpy(&v, payload, sizeof(v));
	*out = (struct vu_caps){
		.major = v.major,
		.minor = v.minor,
		.max_msg_fds = VU_DEFAULT_MSG_FDS,
		.max_data_xfer_size = VU_DEFAULT_DATA_XFER,
		.has_json = len > sizeof(v),
	};
	if (v.major != VU_MAJOR)
		return -EINVAL;
	if (!out->has_json)
		return 0;
	return parse_json((const char *)payload + sizeof(v), len - sizeof(v),
			  out);
}

size_t
vu_version_reply(const struct vu_caps *client, bool iommufd, uint32_t max_maps,
		 void *buf, size_t max)
{
	static const char head[] = "{\"capabilities\":{", tail[] = "}}";
	struct vu_version v = {
		.major = VU_MAJOR,
		.minor = MIN(client->minor, (uint16_t)VU_MINOR),
	};
	char maps[40], text[VU_VERSION_REPLY_MAX];
	/* What a short buffer loses, it loses from the end. */
	const char *keys[] = {
		iommufd ? "\"iommufd\":{\"supported\":true}" : "",
		"\"max_msg_fds\":16",
		"\"max_data_xfer_size\":1048576",
		maps,
		"\"pgsizes\":4096",
		"\"write_multiple\":true",
	};
	size_t len = strlen(head);

	_Static_assert(VU_DEFAULT_DATA_XFER == 1048576, "said above");
	memcpy(buf, &v, sizeof(v));
	snprintf(maps, sizeof(maps), "\"max_dma_maps\":%u",
		 MIN(max_maps, (uint32_t)VU_DEFAULT_DMA_MAPS));
	max = MIN(max, sizeof(text)) - sizeof(v);
	if (len + sizeof(tail) > max)
		return sizeof(v);
	memcpy(text, head, len);
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		size_t key = strlen(keys[i]);
		bool comma = text[len - 1] != '{';

		if (!key)
			continue;
		if (len + comma + key + sizeof(tail) > max)
			break;
		if (comma)
			text[len++] = ',';
		memcpy(text + len, keys[i], key);
		len += key;
	}
	memcpy(text + len, tail, sizeof(tail));
	len += sizeof(tail);
	memcpy((char *)buf + sizeof(v), text, len);
	return sizeof(v) + len;
}
