/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What several RPC methods read or print: identifiers, names of targets, threads. Not for the methods themselves.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "internal.h"

bool
no_params(struct rpc_req *req, const json_t *params)
{
	return rpc_decode(req, params, NULL, 0, NULL, 0);
}

bool
target_name_ok(struct rpc_req *req, const char *tgt_name)
{
	if (!tgt_name || !strcmp(tgt_name, TGT_NAME))
		return true;
	bad_params(
		req,
		"Unable to find a target named '%.64s' ('tgt_name'): there is " TGT_NAME,
		tgt_name);
	return false;
}

void
thread_name(const struct reactor *r, char *buf, size_t len)
{
	snprintf(buf, len, "nvmf_tgt_poll_group_%03u", reactor_index(r));
}

void
cpumask(const struct reactor *r, char *buf, size_t len)
{
	unsigned core = reactor_core(r), digits = core / 4;

	snprintf(buf, len, "%x%0*d", 1u << (core % 4), (int)digits, 0);
	if (!digits)
		buf[1] = '\0';
}

json_t *
uuid_json(const uuid_t uuid)
{
	char text[UUID_STR_LEN];

	uuid_unparse_lower(uuid, text);
	return json_string(text);
}

json_t *
hex_json(const uint8_t *bytes, size_t n)
{
	char text[65];
	size_t i;

	for (i = 0; i < n && i < 32; i++)
		snprintf(text + 2 * i, 3, "%02X", bytes[i]);
	return json_stringn(text, 2 * i);
}

/* Exactly @n bytes, as 2 * @n hexadecimal digits. */
bool
parse_hex(const char *s, uint8_t *out, size_t n)
{
	unsigned v;
	size_t i;

	if (strlen(s) != 2 * n)
		return false;
	for (i = 0; i < n; i++) {
		if (!isxdigit((unsigned char)s[2 * i]) ||
		    !isxdigit((unsigned char)s[2 * i + 1]) ||
		    sscanf(s + 2 * i, "%2x", &v) != 1)
			return false;
		out[i] = (uint8_t)v;
	}
	return true;
}

static const struct {
	const char *name;
	size_t offset;
} ids_table[] = {
	{ "pci_vendor_id", offsetof(struct pci_ids, vendor) },
	{ "pci_device_id", offsetof(struct pci_ids, device) },
	{ "pci_subsystem_vendor_id", offsetof(struct pci_ids, sub_vendor) },
	{ "pci_subsystem_id", offsetof(struct pci_ids, sub_device) },
};

/* PCI ids are written in hexadecimal everywhere, which JSON cannot: a string "0x1b36", or a number. */
static bool
id_decode(const json_t *v, uint16_t *out)
{
	uint64_t n;

	if (json_is_integer(v) && json_integer_value(v) >= 0)
		n = (uint64_t)json_integer_value(v);
	else if (!json_is_string(v) || util_parse_u64(json_string_value(v), &n))
		return false;
	*out = (uint16_t)n;
	return n <= UINT16_MAX;
}

bool
pci_ids_decode(struct rpc_req *req, const json_t *params, struct pci_ids *ids)
{
	const json_t *v;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(ids_table); i++) {
		v = json_object_get(params, ids_table[i].name);
		if (v && !id_decode(v, (uint16_t *)((char *)ids +
						    ids_table[i].offset))) {
			bad_params(
				req,
				"'%s' must be a 16-bit number, or a string like \"0x4e58\"",
				ids_table[i].name);
			return false;
		}
	}
	return true;
}

void
pci_ids_json(json_t *o, const struct pci_ids *ids)
{
	char text[8];
	uint16_t id;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(ids_table); i++) {
		id = *(const uint16_t *)((const char *)ids +
					 ids_table[i].offset);
		if (!id)
			continue;
		snprintf(text, sizeof(text), "0x%04x", id);
		json_object_set_new(o, ids_table[i].name, json_string(text));
	}
}
